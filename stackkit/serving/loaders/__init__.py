"""One module for each family of formats, imported only when a model of it is loaded.

Each has ``load(reference: str, format_name: str) -> Model``.
"""
