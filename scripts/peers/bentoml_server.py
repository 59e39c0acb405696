"""BentoML with one worker process a core; a photo comes as the file of a form, and arrives as a PIL image."""

import bentoml
from handwritten import Classifier
from PIL.Image import Image


@bentoml.service(workers=2)
class Classify:
    def __init__(self) -> None:
        self._classifier = Classifier(threads=1)

    @bentoml.api(route="/predict")
    def predict(self, photo: Image) -> dict:
        pixels = self._classifier.prepare_image(photo)
        return self._classifier.answer(self._classifier.score(pixels[None])[0])
