import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stepdistill_jax.engine.hardware.step_costs import fused_kernels, matmul_flops, traffic
from stepdistill_jax.engine.partition.partitioning import PjitPartitioner

SQUARE = jax.ShapeDtypeStruct((8, 8), jnp.float32)
PRODUCT = 2 * 8**3


def flops(function, *shapes):
    return matmul_flops(jax.make_jaxpr(function)(*shapes))


def test_a_product_costs_two_operations_a_multiply_add():
    assert flops(lambda x, y: x @ y, jnp.ones((3, 5)), jnp.ones((5, 7))) == 2 * 3 * 5 * 7
    batched = flops(lambda x, y: jnp.einsum("blk,bkm->blm", x, y), jnp.ones((2, 3, 5)), jnp.ones((2, 5, 7)))
    assert batched == 2 * 2 * 3 * 5 * 7


def test_a_loop_costs_as_often_as_it_runs():
    def looped(x):
        return jax.lax.scan(lambda carry, _: (jax.lax.scan(lambda c, _: (c @ c, None), carry, length=3)[0], None), x, length=5)[0]  # fmt: skip

    assert flops(looped, SQUARE) == 15 * PRODUCT
    assert flops(jax.jit(looped), SQUARE) == 15 * PRODUCT


def test_a_gradient_is_three_forward_passes_and_rematerialisation_a_fourth():
    def loss(x, w):
        return jnp.sum(jnp.sin(jnp.sin(x @ w) @ w))

    both = (0, 1)
    assert flops(loss, SQUARE, SQUARE) == 2 * PRODUCT
    assert flops(jax.grad(loss, both), SQUARE, SQUARE) == 6 * PRODUCT
    # The last product is not needed again, its input is.
    assert flops(jax.grad(jax.checkpoint(loss), both), SQUARE, SQUARE) in (7 * PRODUCT, 8 * PRODUCT)


def test_the_dearer_branch_of_a_conditional_counts():
    def either(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    assert flops(either, SQUARE) == 2 * PRODUCT


@pytest.fixture(scope="module")
def mesh():
    return PjitPartitioner(num_partitions=2).mesh  # data 4 x model 2


def compiled_text(function, mesh, *specs):
    arguments = [
        jax.ShapeDtypeStruct((16, 16), jnp.float32, sharding=NamedSharding(mesh, spec)) for spec in specs
    ]
    return jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec())).lower(*arguments).compile().as_text()  # fmt: skip


def test_what_a_device_sends_is_counted_by_kind_and_by_link(mesh):
    rows = PartitionSpec("data")
    text = compiled_text(lambda x: x * 2.0, mesh, rows)
    # A ring of four: each device hands on three quarters of the kilobyte.
    assert traffic(text, num_devices=8, devices_per_host=8).by_kind == {"all-gather": 768.0}
    assert traffic(text, num_devices=8, devices_per_host=8).within_bytes == 768.0
    # 'data' is the outer axis: hosts of two devices hold one row of it each.
    assert traffic(text, num_devices=8, devices_per_host=2).across_bytes == 768.0


def test_an_exchange_in_a_loop_counts_as_often_as_the_loop_runs(mesh):
    def looped(x, w):
        return jax.lax.fori_loop(0, 7, lambda _, x: jnp.sin(x @ w), x)

    text = compiled_text(looped, mesh, PartitionSpec(None, "model"), PartitionSpec("model", None))
    sent = traffic(text, num_devices=8, devices_per_host=8)
    assert np.prod(list(sent.by_kind.values())[:1]) > 0
    assert sent.within_bytes >= 7 * 512


HLO = """HloModule step

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %gather = (f32[1]{0}, f32[4]{0}) all-gather-start(%x), replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
}

%cond (p: (s32[], f32[4])) -> pred[] {
  %bound = s32[] constant(5)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]) while(%t), condition=%cond, body=%body
  %r = (bf16[100]{0}, /*index=1*/f32[50]{0}) all-reduce(%a, %b), replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add
  %s = f32[25]{0} reduce-scatter(%a), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}
"""


def test_every_form_of_writing_the_groups_is_read():
    sent = traffic(HLO, num_devices=8, devices_per_host=4)
    assert sent.by_kind == {
        "all-gather": 5 * 16 * 3 / 4,  # the loop's bound is in its condition
        "all-reduce": 2 * 400 * 1 / 2,  # a tuple is one exchange of both
        "reduce-scatter": 100 * 3,
    }
    # [2,4] transposed: pairs of devices 4 apart, on different hosts of four.
    assert sent.across_bytes == 400


KERNELS = """HloModule step

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %a = bf16[4]{0} custom-call(%x), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(step)/while/body/jvp(jit(attend))/jvp(segment_attention)/pallas_call" stack_frame_id=3}
  %b = (bf16[4]{0}, u8[0]{0}) custom-call(%x), custom_call_target="__cudnn$fmhaScaleBiasSoftmax", metadata={op_name="jit(step)/while/body/dot_product_attention_fwd"}
  %c = f32[4]{0} custom-call(%x), custom_call_target="__cublas$gemm", metadata={op_name="jit(step)/while/body/dot_general"}
}

%cond (p: (s32[], f32[4])) -> pred[] {
  %bound = s32[] constant(12)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]) while(%t), condition=%cond, body=%body
  %d = bf16[4]{0} custom-call(%x), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(step)/transpose(jvp(segment_attention_query_gradient))/pallas_call"}
}
"""


def test_fused_kernels_are_named_and_counted_as_often_as_they_run():
    assert fused_kernels(KERNELS) == {
        "segment_attention_query_gradient": 1,
        "segment_attention": 12,
        "cudnn fmhaScaleBiasSoftmax": 12,
    }
    assert fused_kernels(HLO) == {}


def test_a_kernel_s_products_do_not_count():
    from jax.experimental import pallas as pl

    def kernel(left, right, out):
        out[...] = left[...] @ right[...]

    product = pl.pallas_call(kernel, out_shape=SQUARE, interpret=True)
    assert flops(lambda x, y: product(x, y) @ y, SQUARE, SQUARE) == PRODUCT
