"""Layer norm whose second derivative takes a few operators.

torch has one operator for layer norm, one for its derivative, and none for the derivative of that,
which it composes of some sixty: in the training step of a small conservative model they were a
quarter of all. With ``P u = u - mean(u) - x^ mean(u x^)`` for the normalised
``x^ = r (x - mean(x))`` and ``r = (var(x) + eps)^-1/2``, the gradient by x is ``r P (g w)``, and
``dx^ = r P dx``.
"""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.common.tracing import is_traced


def apply_layer_norm(layer: nn.LayerNorm, features: torch.Tensor) -> torch.Tensor:
    """The layer, over the last dimension; differentiable any number of times."""
    fits = features.requires_grad and features.dtype == layer.weight.dtype
    if not fits or is_traced():
        return layer(features)
    return _LayerNorm.apply(features, layer.weight, layer.bias, layer.eps)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, weight, bias, eps):
        ctx.eps = eps
        out, mean, inverse = torch.native_layer_norm(features, weight.shape, weight, bias, eps)
        ctx.save_for_backward(features, weight, bias, mean, inverse)
        return out

    @staticmethod
    def backward(ctx, gradient):
        return *_LayerNormGradient.apply(gradient, *ctx.saved_tensors, ctx.eps), None


class _LayerNormGradient(torch.autograd.Function):
    """Gradients of `_LayerNorm` by features, weight and bias."""

    @staticmethod
    def forward(ctx, gradient, features, weight, bias, mean, inverse, eps):
        ctx.set_materialize_grads(False)
        ctx.eps = eps
        by_features, by_weight, by_bias = torch.ops.aten.native_layer_norm_backward(
            gradient, features, weight.shape, mean, inverse, weight, bias, [True] * 3
        )
        ctx.save_for_backward(gradient, features, weight, mean, inverse, by_features)
        return by_features, by_weight, by_bias

    @staticmethod
    def backward(ctx, by_features, by_weight, by_bias):
        gradient, features, weight, mean, inverse, first = ctx.saved_tensors
        normal = (features - mean) * inverse
        if torch.is_grad_enabled():
            # A third derivative sees through mean and inverse, too.
            centred = features - features.mean(dim=-1, keepdim=True)
            inverse = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + ctx.eps)
            normal = centred * inverse
        of_gradient = of_weight = of_features = None
        if by_features is not None:
            through = _through(by_features, features, mean, inverse, normal)
            if torch.is_grad_enabled():
                first = _through(gradient * weight, features, mean, inverse, normal)
            of_gradient = weight * through
            of_weight = (gradient * through).flatten(0, -2).sum(dim=0)
            # The derivative of ``by_features . first`` by the features.
            turned = normal * _mean(by_features * first)
            turned = torch.addcmul(turned, through, _mean(gradient * weight * normal))
            turned = torch.addcmul(turned, first, _mean(by_features * normal))
            of_features = -inverse * turned
        if by_weight is not None:
            of_gradient = _sum(of_gradient, by_weight * normal)
            through = _through(by_weight * gradient, features, mean, inverse, normal)
            of_features = _sum(of_features, through)
        if by_bias is not None:
            of_gradient = _sum(of_gradient, by_bias.expand_as(gradient))
        return of_gradient, of_features, of_weight, None, None, None, None


def _through(
    vectors: torch.Tensor,
    features: torch.Tensor,
    mean: torch.Tensor,
    inverse: torch.Tensor,
    normal: torch.Tensor,
) -> torch.Tensor:
    """``r P`` of every vector."""
    if not torch.is_grad_enabled():
        shape, wanted = features.shape[-1:], [True, False, False]
        given = vectors.contiguous(), features, shape, mean, inverse, None, None, wanted
        return torch.ops.aten.native_layer_norm_backward(*given)[0]
    return inverse * (vectors - _mean(vectors) - normal * _mean(vectors * normal))


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean(dim=-1, keepdim=True)


def _sum(one: torch.Tensor | None, two: torch.Tensor) -> torch.Tensor:
    return two if one is None else one + two
