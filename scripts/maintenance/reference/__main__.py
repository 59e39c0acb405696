"""``scripts/make-reference``: writes the pages of docs/reference."""

from maintenance.reference.pages import FOLDER, PAGES

for name, build in PAGES.items():
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).write_text(build(), encoding="utf-8")
    print(FOLDER / name)
