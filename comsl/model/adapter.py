"""What stands between the speech encoder and the text encoder: the paper's convolutions, or what CTC hears.

Shapes: B utterances, F frames, d_s width of the speech encoder, d width of the text model, C symbols of the CTC head
(0 is the blank), S pieces heard.
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


class CTCAdapter(nn.Module):
    """Speech as the pieces that CTC hears in it: a vector for each, and the end of the sentence.

    Frames of one piece become one vector (CTC compression, Gaido et al. 2021): it begins where another symbol than the
    blank becomes the likeliest, and lasts until the next one begins; blanks before the first belong to the first. The
    vector is the embedding of the symbol as the text model reads it, averaged by the CTC probabilities of its frames
    with the blank left out (as the adapter of Xu et al. 2021 does without the compression), so that what CTC is unsure
    of stays open. To that comes how it sounded: a projection of the mean frame, scaled by a `gate` that starts at zero.
    Untrained, then, the text model reads speech as it reads the transcript that CTC would write of it.
    """

    def __init__(self, config: ComSLConfig, input_width: int):
        super().__init__()
        self.layer_norm = nn.LayerNorm(input_width)
        self.projection = nn.Linear(input_width, config.hidden_size)
        self.dropout = nn.Dropout(config.adapter_dropout)
        self.gate = nn.Parameter(torch.zeros(config.hidden_size))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """The most that `lengths` [B] frames can come to: a piece each, and the end. How many is known when heard."""
        return lengths + 1

    def forward(
        self, hidden: Tensor, lengths: Tensor, logits: Tensor, pieces: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`(vectors [B, S+1, d], lengths [B])`, zeros beyond a row's length; at least one piece a row.

        Args:
            hidden: frames [B, F, d_s] of the speech encoder, `lengths` [B] of them real.
            logits: of the CTC head [B, F, C].
            pieces: embeddings [C-1, d] of the symbols after the blank.
            end: embedding [d] of the end of a sentence.
        """
        real = length_mask(lengths, hidden.shape[1])
        likeliest = logits.argmax(-1).masked_fill(~real, 0)
        before = nn.functional.pad(likeliest[:, :-1], (1, 0))
        begins = likeliest.ne(0) & likeliest.ne(before)
        heard = begins.sum(1).clamp_min(1)
        piece = (begins.cumsum(1) - 1).clamp_min(0)
        places = torch.arange(int(heard.max()) + 1, device=hidden.device)
        member = (piece[:, None] == places[None, :, None]) & real[:, None]  # [B, S+1, F]
        meant, sound = self._averages(hidden, logits, pieces, member)
        sound = self.projection(self.layer_norm(sound.to(self.gate.dtype)))
        vectors = meant.to(pieces.dtype) + self.gate * self.dropout(sound)
        vectors = torch.where((places == heard[:, None])[..., None], end.to(vectors.dtype), vectors)
        return vectors.masked_fill(~length_mask(heard + 1, len(places))[..., None], 0.0), heard + 1

    def _averages(self, hidden: Tensor, logits: Tensor, pieces: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
        """Of each piece's frames, `member` [B, S+1, F]: the mean embedding [B, S+1, d], the mean frame [B, S+1, d_s].

        In float32 at least: a frame that is all but blank still says which piece it would be.
        """
        exact = torch.promote_types(logits.dtype, torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            logits = logits.to(exact)
            meant = logits[..., 1:].softmax(-1) @ pieces.to(exact)
            # A frame counts as much as it is no blank. (No frame at all, at the end, counts all alike: finite.)
            spoken = logits[..., 1:].logsumexp(-1) - logits.logsumexp(-1)
            nothing = torch.finfo(exact).min
            share = spoken[:, None].masked_fill(~member, nothing).softmax(-1)
            frames = member.to(exact)
            return share @ meant, frames @ hidden.to(exact) / frames.sum(-1, keepdim=True).clamp_min(1)
