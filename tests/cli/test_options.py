"""Option values: what each type takes, what it makes of it, and what it refuses in which words."""

import click
import pytest

from dense2conv.cli.kernel import ORDER
from dense2conv.cli.options import (
    PATCH,
    PROVIDER,
    SIZE,
    STRIDE,
    Patch,
    on_each_axis,
    with_axis_names,
)
from dense2conv.convert.errors import RequestError
from dense2conv.convert.execute import parse_provider


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (SIZE, "224x320", (224, 320)),
        (SIZE, "224X320", (224, 320)),
        (SIZE, "224×320", (224, 320)),
        (SIZE, "30000", (30000,)),
        (SIZE, "8x16x32", (8, 16, 32)),
        (SIZE, "W=320,H=224", (224, 320)),
        (SIZE, "h=224, w=320", (224, 320)),
        (SIZE, "L=100", (100,)),
        (SIZE, "W=3,D=1,H=2", (1, 2, 3)),
        (STRIDE, "4", (4,)),
        (STRIDE, "2x4", (2, 4)),
        (STRIDE, "patch", "patch"),
        (STRIDE, "PATCH", "patch"),
        (PATCH, "20x20x10", Patch((20, 20, 10))),
        (PATCH, "C=10,H=20,W=30", Patch((10, 20, 30), "CHW")),
        (ORDER, "hwc", "HWC"),
        (ORDER, "DHWC", "DHWC"),
        (PROVIDER, "cpu", "cpu"),
        (PROVIDER, "cuda:1", "cuda:1"),
        (PROVIDER, "CUDAExecutionProvider", "CUDAExecutionProvider"),
    ],
)
def test_taken(type, text, value):
    assert type.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("type", "text"),
    [
        *(
            (SIZE, text)
            for text in ("", "x", "0x5", "-3x5", "3x", "x3", "3.5", "1e3", "1x2x3x4", "9" * 10, "٣x4")
        ),
        *(
            (SIZE, text)
            for text in ("H=3", "H=3,H=4", "H=3,W=0", "H=3,C=4", "H=3,W=4,", "H=3;W=4", "H=3,W=4,X=5")
        ),
        *((STRIDE, text) for text in ("0", "-1", "1.5", "patches", "1x2x3x4", "H=1,W=2")),
        *((PATCH, text) for text in ("", "20x0x3", "H=3,H=4,C=1", "20,20,10")),
        *((ORDER, text) for text in ("WHC", "NHWC", "")),
        *(
            (PROVIDER, text)
            for text in ("gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "CUDAExecutionProvide", "")
        ),
    ],
)
def test_refused(type, text):
    with pytest.raises(click.BadParameter) as error:
        type.convert(text, None, None)
    assert repr(text) in error.value.message


@pytest.mark.parametrize("text", ["cpu", "cuda", "cuda:3", "CPUExecutionProvider", "cudaexecutionprovider:2"])
def test_the_library_understands_each_provider_that_is_taken(text):
    assert parse_provider(PROVIDER.convert(text, None, None))


def test_sizes_are_echoed_with_their_axes():
    assert with_axis_names((5,)) == "L=5"
    assert with_axis_names((5, 6)) == "H=5, W=6"
    assert with_axis_names((5, 6, 7)) == "D=5, H=6, W=7"
    assert with_axis_names((5, 6, 7), "HWC") == "H=5, W=6, C=7"


def test_a_patch_follows_the_order():
    assert Patch((20, 30, 10)).in_order("HWC") == (20, 30, 10)
    assert Patch((10, 20, 30), "CHW").in_order("HWC") == (20, 30, 10)
    with pytest.raises(RequestError, match="3 sizes, --order DHWC has 4 axes"):
        Patch((20, 30, 10)).in_order("DHWC")
    with pytest.raises(RequestError, match="names the axes C, H, W, --order LC"):
        Patch((10, 20, 30), "CHW").in_order("LC")


def test_a_stride_on_each_axis():
    assert on_each_axis("patch", (20, 30)) == (20, 30)
    assert on_each_axis((4,), (20, 30)) == (4, 4)
    assert on_each_axis((4, 5), (20, 30)) == (4, 5)
    with pytest.raises(RequestError, match="2 numbers, the patch has 3 spatial axes"):
        on_each_axis((4, 5), (1, 2, 3))
