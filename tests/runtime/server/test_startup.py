"""Server startup: the models fit into the memory limit."""

import weakref

from runtime.engine.process import resident_bytes
from runtime.server import startup
from runtime.server.settings import Settings


def test_models_are_released_before_they_are_loaded_with_lower_limits(tiny, monkeypatch):
    """Both at once would take twice the memory, of a server that has just been given less."""
    load = startup._load_models
    loaded = []
    alive = []

    def count_and_load(*arguments):
        alive.append(sum(model() is not None for model in loaded))
        models = load(*arguments)
        loaded.extend(weakref.ref(model) for model in models)
        return models

    monkeypatch.setattr(startup, "_load_models", count_and_load)
    settings = Settings(artifacts=[str(tiny)])
    models = startup._load_models(settings, 4, settings.limits.pixels)

    limits = startup._fit_into_memory(settings, resident_bytes() + 200 * 2**20, models, 4)

    assert limits.pixels < settings.limits.pixels
    assert alive == [0, 0]
    assert [model.name for model in models] == ["tiny"]
