"""The table against the server that --oip-url names; against our own it runs in tests/runtime/server."""


def test_answer(check_open_inference):
    pass
