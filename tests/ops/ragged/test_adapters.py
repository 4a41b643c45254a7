"""Adapters to flash-attn and torch's packed attention: arguments and layout, with stand-ins.

Neither can run without a CUDA device, and flash-attn is no dependency: the stand-ins take the
arguments of the real functions and compute the same by a loop over the sequences.
"""

from __future__ import annotations

import inspect
import sys
import types

import pytest
import torch

from ct_vlm.ops import _ragged, gated_cross_attention
from ct_vlm.ops import zone_attention as zone
from ct_vlm.ops._ragged import adapters

LAYOUT = zone.ZoneLayout((0, 3, 3, 7, 8), num_zones=2)


def packed(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, scale, calls):
    """Attend sequence by sequence; leave NaN where a sequence has no key, as a kernel may."""
    assert all(tensor.ndim == 3 for tensor in (q, k, v))
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert int(cu_seqlens_q.diff().max()) == max_seqlen_q
    assert int(cu_seqlens_k.diff().max()) == max_seqlen_k
    assert int(cu_seqlens_q[-1]) == len(q)
    assert int(cu_seqlens_k[-1]) == len(k)
    calls.append((max_seqlen_q, max_seqlen_k))
    found = []
    for index in range(len(cu_seqlens_q) - 1):
        rows = q[cu_seqlens_q[index] : cu_seqlens_q[index + 1]]
        keys = slice(int(cu_seqlens_k[index]), int(cu_seqlens_k[index + 1]))
        weights = torch.softmax(torch.einsum("qhd,khd->hqk", rows, k[keys]) * scale, -1)
        pooled = torch.einsum("hqk,khd->qhd", weights, v[keys])
        found.append(pooled if keys.stop > keys.start else torch.full_like(pooled, float("nan")))
    return torch.cat(found)


@pytest.fixture
def tensors() -> list[torch.Tensor]:
    return [torch.randn(2, 2, 3, 2, 8).double(), torch.randn(8, 2, 8).double(), torch.randn(8, 2, 8).double()]


@pytest.fixture(params=["two", "four", "four with log-sum-exp"])
def flash(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Stand in for flash-attn 2 (keywords and defaults of 2.8) or 4 (it returns a pair in some releases)."""
    calls: list[tuple[int, int]] = []

    def two(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
        causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False,
        return_attn_probs=False, block_table=None,
    ):  # fmt: skip
        assert not causal
        assert dropout_p == 0.0
        return packed(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale, calls)

    def four(
        q, k, v, cu_seqlens_q=None, cu_seqlens_k=None, max_seqlen_q=None, max_seqlen_k=None, seqused_q=None,
        seqused_k=None, page_table=None, softmax_scale=None, causal=False, window_size=(None, None),
        learnable_sink=None, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False, return_lse=False,
    ):  # fmt: skip
        assert not causal
        out = packed(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale, calls)
        return (out, None) if "log" in request.param else out

    module, cute = types.ModuleType("flash_attn"), types.ModuleType("flash_attn.cute")
    if request.param == "two":
        module.flash_attn_varlen_func = two
    cute.flash_attn_varlen_func = four
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    monkeypatch.setitem(sys.modules, "flash_attn.cute", cute)
    monkeypatch.setattr(adapters, "flash_version", lambda device: 2 if request.param == "two" else 4)
    monkeypatch.setattr(zone.core, "flash_why_not", lambda *args: None)
    return calls


def test_zones_by_flash_attn(flash: list[tuple[int, int]], tensors: list[torch.Tensor]) -> None:
    found = zone.core._flash(*tensors, LAYOUT, 0.3)
    torch.testing.assert_close(found, zone.zone_attention(*tensors, LAYOUT, scale=0.3, backend="naive"))
    assert flash == [(3, 4)]


def test_memory_by_flash_attn(flash: list[tuple[int, int]]) -> None:
    query, key, value = torch.randn(2, 5, 2, 8), torch.randn(2, 4, 2, 8), torch.randn(2, 4, 2, 8)
    found = gated_cross_attention.attention._attend_flash(query, key, value, None, 0.3)
    torch.testing.assert_close(found, gated_cross_attention.attention.attend_naive(query, key, value, None, 0.3))
    assert flash == [(5, 4)]


@pytest.mark.parametrize("release", ["with scale", "with is_causal"])
def test_packed_attention_of_torch(monkeypatch: pytest.MonkeyPatch, release: str, tensors: list[torch.Tensor]) -> None:
    from torch.nn.attention import varlen

    calls: list[tuple[int, int]] = []

    def new(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
        assert scale is not None
        return packed(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, calls)

    def old(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
        assert not is_causal
        return packed(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, query.shape[-1] ** -0.5, calls)

    monkeypatch.setattr(varlen, "varlen_attn", new if release == "with scale" else old)
    found = zone.core._varlen(*tensors, LAYOUT, 0.3)
    torch.testing.assert_close(found, zone.zone_attention(*tensors, LAYOUT, scale=0.3, backend="naive"))
    query, key, value = torch.randn(2, 5, 2, 8), torch.randn(2, 4, 2, 8), torch.randn(2, 4, 2, 8)
    found = gated_cross_attention.attention._attend_varlen(query, key, value, None, 0.3)
    torch.testing.assert_close(found, gated_cross_attention.attention.attend_naive(query, key, value, None, 0.3))
    assert calls == [(3, 4), (5, 4)]


def test_the_stand_in_has_the_arguments_of_the_installed_torch() -> None:
    from torch.nn.attention import varlen

    names = list(inspect.signature(varlen.varlen_attn).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert "scale" in names or "is_causal" in names


@pytest.mark.parametrize(("count", "length"), [(1, 1), (3, 4), (2, 0), (0, 3)])
def test_uniform_ends(count: int, length: int) -> None:
    expected = [index * length for index in range(count + 1)]
    assert adapters.uniform_ends(count, length, torch.device("cpu")).tolist() == expected


class TestReasons:
    """Why a backend is off, on devices that this machine need not have."""

    @pytest.fixture(autouse=True)
    def _pretend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.installed: set[str] = set()
        self.capability = (9, 0)
        monkeypatch.setattr(_ragged, "_is_installed", lambda name: name in self.installed)
        monkeypatch.setattr(_ragged, "capability", lambda device: self.capability)

    def tensors(self, dtype: torch.dtype = torch.bfloat16, dim: int = 64, grad: bool = False) -> list[torch.Tensor]:
        """Return what has the attributes of CUDA tensors."""
        return [
            types.SimpleNamespace(
                device=torch.device("cuda"), dtype=dtype, shape=torch.Size((4, 2, dim)), requires_grad=grad
            )
            for _ in range(3)
        ]

    def test_flash_attn_is_an_extra(self) -> None:
        assert "extras `flash`, `flash4`" in str(_ragged.flash_why_not(*self.tensors()))
        self.installed = {"flash-attn"}
        assert _ragged.flash_why_not(*self.tensors(grad=True)) is None

    def test_version_four_has_no_backward_on_older_devices(self) -> None:
        self.installed, self.capability = {"flash-attn-4"}, (8, 0)
        assert _ragged.flash_why_not(*self.tensors()) is None
        assert "no backward below" in str(_ragged.flash_why_not(*self.tensors(grad=True)))
        with torch.no_grad():
            assert _ragged.flash_why_not(*self.tensors(grad=True)) is None
        self.installed = {"flash-attn-4", "flash-attn"}
        assert _ragged.flash_why_not(*self.tensors(grad=True)) is None

    @pytest.mark.parametrize(("capability", "version"), [((8, 0), 2), ((9, 0), 4), ((10, 0), 4)])
    def test_the_newer_version_on_newer_devices(self, capability: tuple[int, int], version: int) -> None:
        self.installed, self.capability = {"flash-attn-4", "flash-attn"}, capability
        assert _ragged.flash_version(torch.device("cuda")) == version

    @pytest.mark.parametrize("why_not", [_ragged.flash_why_not, _ragged.varlen_why_not])
    def test_what_no_flash_kernel_takes(self, why_not) -> None:
        assert "fp16 or bf16, not float32" in why_not(*self.tensors(torch.float32))
        assert "heads are 20 wide" in why_not(*self.tensors(dim=20))
        mixed = [*self.tensors()[:2], *self.tensors(torch.float16)[:1]]
        assert "bfloat16 with float16" in why_not(*mixed)
        self.capability = (7, 5)
        assert "capability 8.0" in why_not(*self.tensors())
