"""FastAPI on the event loop with a session on all cores: its best arrangement for one client."""

from fastapi import FastAPI, Request
from handwritten import Classifier

app = FastAPI()
classifier = Classifier(threads=2)


@app.post("/predict")
async def predict(request: Request) -> dict:
    return classifier.predict(await request.body())
