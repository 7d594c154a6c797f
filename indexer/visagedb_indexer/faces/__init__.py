"""Images to faces to vectors: decode, detect, align, embed, judge.

The only room that imports torch, onnx and Pillow, and it does so in its submodules: importing
this package, or reading model cards, works without them.
"""

from visagedb_indexer.faces.cards import ModelCard, load_card
from visagedb_indexer.faces.registry import ModelRegistry, builtin_cards

__all__ = ["ModelCard", "ModelRegistry", "builtin_cards", "load_card"]
