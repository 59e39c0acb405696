"""Ray Serve with two replicas of one core each."""

import sys
import time

import ray
from handwritten import Classifier
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1})
class Classify:
    def __init__(self) -> None:
        self._classifier = Classifier(threads=1)

    async def __call__(self, request: Request) -> dict:
        return self._classifier.predict(await request.body())


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Classify.bind(), route_prefix="/predict")
    while True:
        time.sleep(60)
