"""FastAPI with a pool of two threads, and single-threaded runs: its best arrangement for throughput."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI, Request
from handwritten import Classifier

app = FastAPI()
classifier = Classifier(threads=1)
pool = ThreadPoolExecutor(2)


@app.post("/predict")
async def predict(request: Request) -> dict:
    body = await request.body()
    return await asyncio.get_running_loop().run_in_executor(pool, classifier.predict, body)
