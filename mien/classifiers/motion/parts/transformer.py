"""The encoder of a transformer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

INIT_DEVIATION = 0.02  # of position embeddings


class TokenAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, Equation 1)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.make_triples = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        """Return for each token the mean of all tokens, weighted by likeness."""
        n, tokens, width = x.shape
        triples = self.make_triples(x).view(n, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = triples.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.project(mixed.transpose(1, 2).reshape(n, tokens, width))


class EncoderLayer(nn.Module):
    """A layer of the encoder (Dosovitskiy et al. 2021, Equations 2 and 3): normalised first."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.attend = TokenAttention(width, heads)
        self.second_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n tokens width"]:
        """Return the tokens after attention and the two layers that see each token alone."""
        x = x + self.drop(self.attend(self.first_norm(x)))
        hidden = self.drop(functional.gelu(self.expand(self.second_norm(x))))
        return x + self.drop(self.contract(hidden))


class Encoder(nn.Module):
    """An encoder that returns the mean of its tokens (Dosovitskiy et al. 2021, Equations 1 to 4).

    Its position embeddings are learnt. A mean of the tokens takes the place of a class token: both
    do equally well (Appendix D.3 of the paper), and the mean learns from fewer images.
    """

    def __init__(self, tokens: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, tokens, width) * INIT_DEVIATION)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(EncoderLayer(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "n tokens width"]) -> Float[Tensor, "n width"]:
        """Return the mean of the tokens after all layers."""
        return self.norm(self.blocks(self.drop(x + self.positions))).mean(dim=1)
