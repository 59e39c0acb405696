"""LitServe with one worker process a core; a photo comes as a file of a form."""

import sys

import litserve
from handwritten import Classifier


class Api(litserve.LitAPI):
    def setup(self, _device: str) -> None:
        self._classifier = Classifier(threads=1)

    def decode_request(self, request) -> bytes:
        return request["photo"].file.read()

    def predict(self, body: bytes) -> dict:
        return self._classifier.predict(body)

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
