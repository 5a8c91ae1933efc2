"""Operations of a cell's edge, written into a graph.

Convolutions are ReLU-Conv-BN; separable ones are that twice with a depthwise and a pointwise
part. In a supernet the batch normalizations have no parameters (`affine` is False), so that the
scale of an operation is that of its choice (Liu et al. 2019, appendix A.1).
"""

from __future__ import annotations

from kinase.space.builder import GraphBuilder


def relu_conv_bn(
    g: GraphBuilder,
    name: str,
    x: str,
    out: int,
    kernel: int | tuple[int, int],
    stride: int,
    *,
    affine: bool = True,
) -> str:
    """ReLU, a convolution, batch normalization."""
    x = g.relu(f"{name}_relu", x)
    x = g.conv(f"{name}_conv", x, out, kernel, stride)
    return g.batch_norm(f"{name}_bn", x, affine=affine)


def factorized_reduce(
    g: GraphBuilder, name: str, x: str, out: int, *, affine: bool = True, relu: bool = True
) -> str:
    """Halve the map: two 1x1 convolutions of stride 2, one of them a pixel further, joined."""
    x = g.relu(f"{name}_relu", x) if relu else x
    shifted = g.unary(f"{name}_shift", "shift", x)
    left = g.conv(f"{name}_conv1", x, out - out // 2, 1, 2)
    parts = [left]
    if out > 1:
        parts.append(g.conv(f"{name}_conv2", shifted, out // 2, 1, 2))
    joined = g.concat(f"{name}_concat", parts)
    return g.batch_norm(f"{name}_bn", joined, affine=affine)


def halve(g: GraphBuilder, name: str, x: str) -> str:
    """Halve the map by averages that take every pixel in; one of a single pixel stays."""
    _, height, width = g.shape(x)
    if height == width == 1:
        return x
    even = height % 2 == 0 and width % 2 == 0
    return g.pool(name, x, "avg", *((2, 2, 0) if even else (3, 2, 1)))


def _separable(
    g: GraphBuilder,
    name: str,
    x: str,
    out: int,
    kernel: int,
    stride: int,
    *,
    affine: bool,
    dilation: int = 1,
) -> str:
    channels = g.shape(x)[0]
    x = g.relu(f"{name}_relu", x)
    x = g.conv(f"{name}_dw", x, channels, kernel, stride, groups=channels, dilation=dilation)
    x = g.conv(f"{name}_pw", x, out, 1)
    return g.batch_norm(f"{name}_bn", x, affine=affine)


def apply(
    g: GraphBuilder, name: str, op: str, x: str, out: int, stride: int, *, affine: bool = True
) -> str:
    """Write an operation; the input has `out` channels unless it is a plain convolution."""
    channels = g.shape(x)[0]
    match op:
        case "none":
            return g.unary(name, "zero", x, stride=stride)
        case "skip_connect":
            if stride == 1 and channels == out:
                return x
            return factorized_reduce(g, name, x, out, affine=affine)
        case "nor_conv_1x1" if stride == 2:
            # a window of one pixel that steps would pass over three of four: He et al. 2019
            # (bag of tricks, section 4.1) average before it
            x = g.relu(f"{name}_relu", x)
            x = g.conv(f"{name}_conv", halve(g, f"{name}_pool", x), out, 1)
            return g.batch_norm(f"{name}_bn", x, affine=affine)
        case "nor_conv_1x1" | "nor_conv_3x3":
            return relu_conv_bn(g, name, x, out, int(op[-1]), stride, affine=affine)
        case "sep_conv_3x3" | "sep_conv_5x5" | "sep_conv_7x7":
            x = _separable(g, f"{name}_1", x, channels, int(op[-1]), stride, affine=affine)
            return _separable(g, f"{name}_2", x, out, int(op[-1]), 1, affine=affine)
        case "dil_conv_3x3" | "dil_conv_5x5":
            return _separable(g, name, x, out, int(op[-1]), stride, affine=affine, dilation=2)
        case "conv_7x1_1x7":
            x = g.relu(f"{name}_relu", x)
            # each steps along its own window, so that no pixel is passed over
            x = g.conv(f"{name}_conv1", x, out, (1, 7), (1, stride))
            x = g.conv(f"{name}_conv2", x, out, (7, 1), (stride, 1))
            return g.batch_norm(f"{name}_bn", x, affine=affine)
        case "max_pool_3x3" | "avg_pool_3x3":
            return g.pool(name, x, op[:3], 3, stride)
        case _:
            raise ValueError(f"{name}: unknown operation {op!r}")
