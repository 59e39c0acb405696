"""Files that people take for images, by their first bytes."""

# What a file is, by what it begins with, in lower case, and how to make an image of it.
_BASE64 = ("an image as base64 text", "Decode it first, such as with 'base64 -d'.")
_WEB_PAGE = ("a web page, as servers send instead of a file", "Download the image itself.")
_VECTOR = ("an SVG or XML file", "Draw it as PNG first.")
_ARCHIVE = ("an archive, or something compressed", "Unpack it first.")
_KINDS = {
    **dict.fromkeys((b"/9j/", b"ivborw0kggo", b"r0lgod", b"uklgr", b"data:image/"), _BASE64),
    **dict.fromkeys((b"<!doctype html", b"<html", b"<head"), _WEB_PAGE),
    **dict.fromkeys((b"<svg", b"<?xml"), _VECTOR),
    **dict.fromkeys((b"pk\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"rar!"), _ARCHIVE),
    b"version https://git-lfs": ("a Git LFS pointer to one", "Fetch it with 'git lfs pull'."),
    b"%pdf-": ("a PDF file", "Draw its pages as PNG first."),
    b"\x00\x05\x16\x07": ("macOS's own data about a file", "Delete it."),
    b"\x00\x00\x00\x0cjp": ("JPEG 2000", "Convert it to PNG first."),
}
_LONGEST = max(map(len, _KINDS))

# HEIC, AVIF and MP4 name their kind after the length of their first box.
_BOX = b"ftyp"


def foreign_kind(data: bytes) -> tuple[str, str] | None:
    """Return what a file is that is no image, and what to do with it; None where that is unknown."""
    if data[4:8] == _BOX:
        return "HEIC, AVIF or a video", "Convert it to JPEG or PNG first."
    start = data[: 2 * _LONGEST].lstrip(b" \t\r\n\xef\xbb\xbf").lower()
    return next((kind for beginning, kind in _KINDS.items() if start.startswith(beginning)), None)
