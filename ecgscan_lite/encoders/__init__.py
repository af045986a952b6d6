"""One encoder per modality: image (timm), signal (1-D ResNet and ViT), text (sentence-transformers)."""

from ecgscan_lite.encoders.image import ImageEncoder
from ecgscan_lite.encoders.signal import SignalResNet, SignalViT
from ecgscan_lite.encoders.text import TextEncoder

__all__ = ["ImageEncoder", "SignalResNet", "SignalViT", "TextEncoder"]
