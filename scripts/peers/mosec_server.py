"""mosec with one worker process a core."""

from handwritten import Classifier
from mosec import Server, Worker


class Predict(Worker):
    def __init__(self) -> None:
        super().__init__()
        self._classifier = Classifier(threads=1)

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> dict:
        return self._classifier.predict(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Predict, num=2)
    server.run()
