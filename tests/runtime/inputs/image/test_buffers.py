"""A buffer is lent again when nothing refers to it any more, and never before."""

import threading

import numpy as np
import pytest

from runtime.inputs.image.buffers import MAX_KEPT_BYTES, borrow_buffer, join_adjacent


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture
def buffer():
    """The address of this thread's buffer, which is free and holds 1,000 bytes."""
    return address(borrow_buffer(1000))


def test_it_is_lent_again_when_it_is_free(buffer):
    for size in (1000, 10, 999):
        assert address(borrow_buffer(size)) == buffer


@pytest.mark.parametrize(
    "view",
    [
        lambda loan: loan,
        lambda loan: loan[5:],
        lambda loan: loan.reshape(10, 20, 3)[2:][:, 3:].transpose(1, 0, 2)[::-1],
        lambda loan: np.asarray(loan).view(np.int8),
        lambda loan: memoryview(loan),
        lambda loan: memoryview(loan[3:])[2:],
        lambda loan: np.frombuffer(loan, np.uint8)[1:],
        lambda loan: np.ravel(loan.reshape(2, 300)[:1])[4:5],
        lambda loan: np.broadcast_to(loan, (2, 600)),
        lambda loan: np.lib.stride_tricks.as_strided(loan[4:], (3, 4), (1, 2)),
        lambda loan: np.split(loan, 3)[1],
    ],
)
def test_it_is_not_lent_again_while_any_view_of_it_is_there(buffer, view):
    kept = view(borrow_buffer(600))

    other = borrow_buffer(600)

    assert not np.shares_memory(np.asarray(kept), other)
    del kept
    assert address(borrow_buffer(600)) == buffer


def test_threads_have_buffers_of_their_own(buffer):
    kept = []

    def work():
        kept.append(borrow_buffer(500))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert address(kept[0]) != buffer
    assert address(borrow_buffer(500)) == buffer


def test_giant_ones_are_not_kept(buffer):
    giant = borrow_buffer(MAX_KEPT_BYTES + 1)

    assert len(giant) == MAX_KEPT_BYTES + 1
    assert address(borrow_buffer(1000)) == buffer


def test_each_use_has_a_buffer_of_its_own(buffer):
    kept = borrow_buffer(500, use="batch")

    assert address(kept) != buffer
    assert address(borrow_buffer(500)) == buffer


@pytest.fixture
def batch():
    """A batch of four in a buffer."""
    array = borrow_buffer(4 * 2 * 3, use="batch").reshape(4, 2, 3)
    array[...] = np.arange(24).reshape(4, 2, 3)
    return array


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3), (1, 2), (3,)])
def test_neighbors_are_joined_without_a_copy(batch, chosen):
    joined = join_adjacent([batch[index] for index in chosen])

    assert np.array_equal(joined, batch[list(chosen)])
    assert address(joined) == address(batch[chosen[0]])


def test_the_joined_batch_keeps_the_buffer(batch):
    joined = join_adjacent([batch[0], batch[1]])
    expected, where = joined.copy(), address(batch)
    del batch

    assert address(borrow_buffer(24, use="batch")) != where or np.array_equal(joined, expected)


@pytest.mark.parametrize(
    "arrays",
    [
        lambda batch: [batch[1], batch[0]],
        lambda batch: [batch[0], batch[2]],
        lambda batch: [batch[0], batch[0]],
        lambda batch: [batch[0], batch[1].copy()],
        lambda batch: [batch[0].copy(), batch[1]],
        lambda batch: [batch[0][:, ::2], batch[1][:, ::2]],
        lambda batch: [batch[0].T, batch[1].T],
        lambda batch: [batch[0], batch[1].view(np.int8)],
        lambda batch: [np.frombuffer(bytes(6), np.uint8), np.frombuffer(bytes(6), np.uint8)],
    ],
)
def test_all_others_are_copied(batch, arrays):
    arrays = arrays(batch)

    joined = join_adjacent(arrays)

    assert np.array_equal(joined, np.stack(arrays))
    assert joined.dtype == np.stack(arrays).dtype
    assert not any(np.shares_memory(joined, array) for array in arrays)
