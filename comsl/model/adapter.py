"""The length adapter between the speech encoder and the text encoder.

Shapes: B utterances, F frames, d_s width of the speech encoder, d width of the text model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configuration import ComSLConfig


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Mask [B, size], True at the first `lengths[b]` places of row b."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


class AdapterLayer(nn.Module):
    """x = LayerNorm(x + 0.5 FFN(x)), then a strided convolution with a gated linear unit to `width`."""

    def __init__(self, input_width: int, width: int, kernel_size: int, stride: int, ffn_factor: int, dropout: float):
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Linear(input_width, ffn_factor * input_width),
            nn.ReLU(),
            nn.Linear(ffn_factor * input_width, input_width),
        )
        self.layer_norm = nn.LayerNorm(input_width)
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv1d(input_width, 2 * width, kernel_size, stride=stride, padding=kernel_size // 2)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Number of frames after the convolution for `lengths` frames before it."""
        kernel_size, stride, padding = self.conv.kernel_size[0], self.conv.stride[0], int(self.conv.padding[0])
        return (lengths + 2 * padding - kernel_size) // stride + 1

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.layer_norm(hidden + 0.5 * self.dropout(self.ffn(hidden)))
        # The convolution pads with zeros, so zeros beyond the end make a padded clip equal to the clip alone.
        hidden = hidden.masked_fill(~length_mask(lengths, hidden.shape[1])[..., None], 0.0)
        hidden = nn.functional.glu(self.conv(hidden.transpose(1, 2)), dim=1).transpose(1, 2)
        return self.dropout(hidden), self.output_lengths(lengths)


class LengthAdapter(nn.Module):
    """Shortens speech (in the paper two layers of stride 2, four times) and brings it to the width of the text model.

    `forward(hidden [B, F, d_s], lengths [B])` returns `(hidden [B, F', d], lengths [B])`; frames beyond a row's
    length are zero and never touch the others.
    """

    def __init__(self, config: ComSLConfig, input_width: int):
        super().__init__()
        widths = [input_width] + [config.hidden_size] * len(config.adapter_strides)
        self.layers = nn.ModuleList(
            AdapterLayer(
                widths[i],
                widths[i + 1],
                config.adapter_kernel_size,
                stride,
                config.adapter_ffn_factor,
                config.adapter_dropout,
            )
            for i, stride in enumerate(config.adapter_strides)
        )

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames after the adapter for `lengths` [B] frames of the speech encoder."""
        for layer in self.layers:
            lengths = layer.output_lengths(lengths)  # type: ignore[operator]
        return lengths

    def forward(self, hidden: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            hidden, lengths = layer(hidden, lengths)
        return hidden.masked_fill(~length_mask(lengths, hidden.shape[1])[..., None], 0.0), lengths
