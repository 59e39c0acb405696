"""Input kinds: one folder each, with an ``InputPipeline`` as ``exporter.inputs.adapter`` describes it."""
