"""The masking of frames that a client sends (RFC 6455 section 5.3)."""

try:
    # Masks with vector instructions (section 5.3). Python's integers take five times as long for a short message, a
    # hundred times for a long one.
    from websockets.speedups import apply_mask as unmask
except ImportError:  # pragma: no cover - without a wheel of websockets and a C compiler
    from websockets.utils import apply_mask as unmask

__all__ = ["unmask"]
