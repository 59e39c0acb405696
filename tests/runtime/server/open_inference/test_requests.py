"""The Open Inference Protocol over HTTP: the table of tests/oip_table against a real server."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from oip_table.cases import CASES
from oip_table.target import Target


@pytest.fixture(scope="module")
def open_inference_target(server):
    return server.target()


def test_the_server_answers_as_the_protocol_says(check_open_inference):
    pass


def test_the_table_is_as_large_as_promised():
    assert len({case.name for case in CASES}) == len(CASES) >= 80


class _Broken(BaseHTTPRequestHandler):
    """A server that fails at everything, with a body that says nothing."""

    def _fail(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(500)
        self.end_headers()
        self.wfile.write(b'{"inputs": [{"name": "x"}], "outputs": [{"name": "y", "shape": [1]}]}')

    do_GET = do_POST = _fail  # noqa: N815  # http.server's names

    def log_message(self, *arguments):
        pass


def test_a_broken_server_fails_every_case_of_the_table():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Broken) as broken:
        threading.Thread(target=broken.serve_forever, daemon=True).start()
        target = Target(url=f"http://127.0.0.1:{broken.server_port}", model="tiny", image=b"image")
        for case in CASES:
            if "bomb" in case.name or "above the limit" in case.name:
                continue
            response = target.send(case.ask(target))
            assert response.status not in ((case.status,) if isinstance(case.status, int) else case.status), case.name
        broken.shutdown()


def test_prepared_pixels_go_to_the_network_as_they_are(server, tiny, cat):
    import numpy as np

    import runtime

    model = runtime.load(tiny, device="cpu", threads=1)
    pixels = np.stack([model.prepare(cat)] * 2)
    target = server.target()

    def send(array):
        described = {"name": "pixels", "datatype": "UINT8", "shape": list(array.shape)}
        described["parameters"] = {"binary_data_size": array.nbytes}
        return target.send(target.infer({"inputs": [described]}, array.tobytes()))

    (output,) = send(pixels).json["outputs"]
    np.testing.assert_allclose(
        np.array(output["data"]).reshape(2, 4), model.run({"pixels": pixels})["probabilities"], atol=1e-5
    )
    assert send(pixels[:, 1:]).status == 400
    assert send(pixels[:0]).status == 400
