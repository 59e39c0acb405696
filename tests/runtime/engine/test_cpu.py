"""What the processor can do, read from the system."""

import pytest

from runtime.engine import cpu


@pytest.mark.parametrize(
    ("line", "fast"),
    [
        ("flags\t\t: fpu sse avx2 avx512f avx512_vnni", True),
        ("flags\t\t: fpu sse avx2 avx_vnni", True),
        ("Features\t: fp asimd asimddp", True),
        ("flags\t\t: fpu sse avx2 avx512f", False),
    ],
)
def test_instructions_for_8_bit_products_are_read_from_linux(monkeypatch, tmp_path, line, fast):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(cpu, "_PROCESSOR", tmp_path / "cpuinfo")

    assert cpu.has_fast_int8() is fast


def test_elsewhere_they_are_known_of_apple_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "_PROCESSOR", tmp_path / "none")
    monkeypatch.setattr(cpu.platform, "system", lambda: "Darwin")

    monkeypatch.setattr(cpu.platform, "machine", lambda: "arm64")
    assert cpu.has_fast_int8() is True
    monkeypatch.setattr(cpu.platform, "machine", lambda: "x86_64")
    assert cpu.has_fast_int8() is None
