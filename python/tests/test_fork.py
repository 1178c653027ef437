"""Forks, as those of a DataLoader: the child's products are right, or refused; they never hang."""

import os
import threading

import numpy as np
from conftest import in_child, noise

import lutmul

X = noise(20, 300, seed=3)


def everything(weights, expected):
    for threads in (1, 2, 3, None):
        for mode, y in expected.items():
            assert np.array_equal(weights.matmul(X, mode, threads=threads), y), (mode, threads)
    encoded = lutmul.Weights.encode(noise(700, 300), "e4m3", "row", threads=2)
    assert np.array_equal(encoded.codes, weights.codes)
    assert np.array_equal(encoded.decode(threads=3), weights.decode(threads=1))


def expected_of(weights):
    return {mode: weights.matmul(X, mode, threads=1) for mode in lutmul.MODES}


def test_before_the_first_product():
    """Of new weights, in a process that may have no threads yet."""
    encode = lambda: lutmul.Weights.encode(noise(700, 300), "e4m3", "row", threads=1)
    weights, expected = encode(), expected_of(encode())
    in_child(everything, weights, expected)
    everything(weights, expected)


def test_after_products():
    weights = lutmul.Weights.encode(noise(700, 300), "e4m3", "row")
    expected = expected_of(weights)
    everything(weights, expected)

    def child():
        everything(weights, expected)
        # And a child of the child's.
        in_child(everything, weights, expected)
        everything(weights, expected)

    in_child(child)
    everything(weights, expected)


def test_during_products():
    """Whatever the threads of the parent are doing."""
    weights = lutmul.Weights.encode(noise(700, 300), "e4m3", "row")
    expected, stop, errors = expected_of(weights), threading.Event(), []

    def work(threads):
        mine = lutmul.Weights.encode(noise(700, 300), "e4m3", "row", threads=threads)
        while not stop.is_set():
            if not np.array_equal(mine.matmul(X, "a16", threads=threads), expected["a16"]):
                errors.append(threads)

    workers = [threading.Thread(target=work, args=(1 + i,)) for i in range(3)]
    [worker.start() for worker in workers]
    try:
        for _ in range(5):
            in_child(everything, weights, expected)
    finally:
        stop.set()
        [worker.join() for worker in workers]
    assert not errors


def test_many_children_at_a_time():
    weights = lutmul.Weights.encode(noise(700, 300), "e4m3", "row")
    expected = expected_of(weights)
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            try:
                everything(weights, expected)
                os._exit(0)
            except BaseException:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
