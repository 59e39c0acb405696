"""Paths of the demo's artifact and photos, which scripts/demo writes."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARTIFACT = ROOT / "artifacts" / "efficientnet-lite0"
PHOTOS = ROOT / "build" / "demo" / "photos"
