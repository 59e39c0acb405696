"""The page in Debian's chromium: drop a photo, see the label.

`browser.py URL IMAGE FOLDER [TOKEN]` leaves screenshots in the folder.
"""

import base64
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

url, image, folder = sys.argv[1:4]
token = sys.argv[4] if len(sys.argv) > 4 else ""
options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
for argument in (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--window-size=1100,900",
    "--disable-dev-shm-usage",
):
    options.add_argument(argument)
# Nothing but the server itself can be reached: the page must not need another host.
options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
wait = WebDriverWait(browser, 30)

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], arguments[1], {type: "image/jpeg"}));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
"""


def drop(data, name):
    browser.execute_script(DROP, base64.b64encode(data).decode(), name)


def text(selector):
    return browser.find_element(By.CSS_SELECTOR, selector).text


try:
    browser.get(url)
    if token:
        wait.until(lambda b: b.find_element(By.ID, "access").is_displayed())
        browser.find_element(By.ID, "token").send_keys(token)
        browser.find_element(By.CSS_SELECTOR, "#access button").click()
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#model option"))
    if image == "-":  # a model of another kind: its form, filled in with what it suggests
        wait.until(lambda b: b.find_element(By.ID, "fields").is_displayed())
        assert not browser.find_element(By.ID, "drop").is_displayed()
        browser.find_element(By.CSS_SELECTOR, "#fields button").click()
        wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#labels li") or b.find_element(By.ID, "row").text)
        assert "application/json" in text("#curl")
        browser.save_screenshot(f"{folder}/fields.png")
        print("ok")
        sys.exit()
    browser.save_screenshot(f"{folder}/empty.png")
    photo = Path(image).read_bytes()
    drop(photo, "my cat.jpg")
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#labels li"))
    assert text("#labels li:first-child .name span"), "a label"
    print(text("#labels li:first-child .name span"))
    assert text("#labels li:first-child .name").endswith("%")
    assert {part.text for part in browser.find_elements(By.CSS_SELECTOR, "#legend dt")} == {
        "queue",
        "decode",
        "geometry",
        "network",
        "transfer",
    }
    assert "'my cat.jpg'" in text("#curl")
    assert url in text("#python")
    browser.save_screenshot(f"{folder}/label.png")
    drop(b"garbage", "broken.jpg")
    wait.until(lambda b: b.find_element(By.ID, "error").is_displayed())
    assert "not an image" in text("#error")
    assert not browser.find_elements(By.CSS_SELECTOR, "#labels li")
    assert browser.find_element(By.ID, "hint").is_displayed()
    browser.save_screenshot(f"{folder}/error.png")
    # Another file through the chooser.
    browser.find_element(By.ID, "file").send_keys(str(Path(image).resolve()))
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#labels li"))
    assert not browser.find_element(By.ID, "error").is_displayed()
    logged = [row for row in browser.get_log("browser") if row["level"] == "SEVERE"]
    expected = (" 400 ", " 401 ")
    assert all(any(status in row["message"] for status in expected) for row in logged), logged
    browser.get(f"{url}/docs")
    if token:
        browser.find_element(By.ID, "token").send_keys(token)
        browser.find_element(By.CSS_SELECTOR, "#access button").click()
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "details"))
    browser.find_element(By.XPATH, "//summary[contains(., '/predict/')]").click()
    assert "/predict/" in text("details[open] code")
    browser.save_screenshot(f"{folder}/docs.png")
finally:
    browser.quit()
print("ok")
