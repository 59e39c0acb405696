"""The web page with a label, and the HTML report, in Debian's chromium: wide and narrow, light and dark.

`photograph.py URL IMAGE REPORT FOLDER` writes NAME-WIDTH-SCHEME.png; in the environment of tests/clients.
"""

import base64
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WIDTHS = {1280: 900, 390: 844}
SCHEMES = ("light", "dark")


def save(browser: webdriver.Chrome, path: Path) -> None:
    """Save the whole page, also what is below the window."""

    def layout(page: webdriver.Chrome) -> dict | None:
        size = page.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        return size if size["width"] else None

    # A page that is loaded may not be laid out yet.
    size = WebDriverWait(browser, 30).until(layout)
    clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(shot["data"]))


def main() -> None:
    url, image, report, folder = sys.argv[1:]
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    wait = WebDriverWait(browser, 30)
    try:
        for width, height in WIDTHS.items():
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            for scheme in SCHEMES:
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                browser.get(url)
                wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "#model option"))
                browser.find_element(By.ID, "file").send_keys(str(Path(image).resolve()))
                wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "#labels li"))
                save(browser, Path(folder) / f"page-{width}-{scheme}.png")
                browser.get(Path(report).resolve().as_uri())
                save(browser, Path(folder) / f"report-{width}-{scheme}.png")
                overflow = browser.execute_script(
                    "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                print(f"report {width} {scheme}: {overflow} pixels too wide")
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
