"""The merchant's page in a real browser, on the running platform: what people complain of at comparable tools.

Designing, picking and refining; a round that outlives its page; two merchants; two languages; keyboard, phone, zoom.
"""

import io
import re
import time

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from deploy.demo.browsing import PHONE, ROUND_MS
from deploy.local.cluster import Cluster
from tests.integration.conftest import Visit

pytestmark = pytest.mark.cluster

LONG = {"num_candidates": "12", "num_steps": "40"}  # a round of some seconds


def test_a_person_designs_picks_and_refines(visit: Visit) -> None:
    lin = visit("lin")
    lin.draws("dress,v-neck")
    group = lin.waits_for_group()
    page = lin.page
    assert page.evaluate("scrollY") == 0
    expect(page.locator("[data-submit-pick]")).to_be_disabled()
    page.locator("label.picture").nth(1).click()
    page.get_by_role("button", name="Undo").click()  # until it is submitted
    expect(page.locator("label.picture :checked")).to_have_count(0)
    for number in (0, 2):
        page.locator("label.picture").nth(number).click()
    page.get_by_role("button", name="Compare two").click()
    expect(page.locator("figure img")).to_have_count(2)
    page.get_by_role("link", name="Back to the group").click()
    page.locator("label.picture").nth(2).click()
    page.get_by_role("button", name="Store my pick").click()
    expect(page.locator("#picked")).to_have_text(re.compile("Your pick is stored: 1 of 5"))
    page.get_by_role("button", name="None pleases").click()
    expect(page.locator("#picked")).to_have_text(re.compile("none pleases"))

    struck = page.locator(".wishes a.chip").first
    wish = struck.inner_text().replace("✕", "").strip()
    struck.click()
    expect(page.locator(".struck")).to_contain_text(wish)
    page.locator("[data-send]").click()
    refined = lin.waits_for_group()
    assert refined != group
    assert wish not in page.locator(".about").inner_text().replace("✕", "").split("\n")
    page.get_by_role("link", name="More like Picture 1").click()
    expect(page.locator(".like img")).to_be_visible()
    page.locator("[data-send]").click()
    assert lin.waits_for_group() not in (group, refined)
    lin.goes_to("/history")
    assert page.locator("ol.history > li").count() >= 3


def test_a_round_outlives_reload_a_lost_network_and_a_closed_page_and_has_any_number_of_readers(visit: Visit) -> None:
    lin = visit("lin")
    path = lin.draws("dress,long sleeves", **LONG)
    lin.page.wait_for_selector('[data-stage="drawing"]', timeout=ROUND_MS)
    lin.page.reload()
    lin.page.wait_for_selector('[data-stage="drawing"]')
    second = lin.context.new_page()  # another tab
    second.goto(lin.home + path)
    lin.context.set_offline(True)
    time.sleep(0.5)
    lin.context.set_offline(False)
    lin.page.close()
    second.wait_for_url("**/groups/*", timeout=ROUND_MS)
    assert second.locator("label.picture").count() == 12


def test_a_round_outlives_the_studio(visit: Visit, cluster: Cluster) -> None:
    lin = visit("lin")
    lin.draws("coat", **LONG)
    lin.page.wait_for_selector('[data-stage="drawing"]', timeout=ROUND_MS)
    cluster.kill("studio")
    cluster.up(["studio"])
    lin.waits_for_group()


def test_a_round_is_ended_by_whoever_began_it(visit: Visit) -> None:
    lin = visit("lin")
    lin.draws("coat", **LONG)
    lin.page.get_by_role("button", name="End this round").click()
    expect(lin.page.locator("[data-stage]")).to_have_attribute("data-stage", "cancelled", timeout=ROUND_MS)
    lin.page.get_by_role("link", name="Change and draw again").click()
    expect(lin.page.locator(".phrases .chip")).to_contain_text("coat")


def test_nobody_sees_another_merchants_pictures(visit: Visit, browser: Browser, home: str) -> None:
    lin, stranger = visit("lin"), visit("")
    round_path = lin.draws("skirt")
    group = lin.waits_for_group()
    picture = lin.page.locator("label.picture img").first.get_attribute("src")
    assert lin.status_of(group) == lin.status_of(str(picture)) == 200
    chen = visit("chen")  # acts for the other store first
    stranger.goes_to("/welcome")
    theirs = [group, str(picture), f"{picture}?download=1", f"{group}/compare", f"/?group={group.split('/')[-1]}"]
    rounds = [round_path, f"{round_path}/events", f"{round_path}/previews/1/0.png", f"/?round={round_path[8:]}"]
    for path in (*theirs, *rounds):
        assert chen.status_of(path) == 404, path
        assert stranger.status_of(path) == 401, path
    token = chen.page.locator('input[name="form_token"]').first.input_value()
    for path in (f"{group}/pick", "/stars", "/shares", f"{round_path}/end"):
        named = {"group_id": group.split("/")[-1], "image_id": str(picture).split("/")[-1][:-4], "shared": "1"}
        form = {"form_token": token, "request_id": round_path[8:], "starred": "1", "none": "1", **named}
        assert chen.status_of(path, "POST", **form) in (403, 404), path

    lin.page.get_by_role("button", name="Share Picture 1 by a link").click()
    link = str(lin.page.locator("a.link").first.get_attribute("href")).removeprefix(home)
    assert stranger.status_of(link) == stranger.status_of(f"{link}/picture.png") == 200
    lin.page.get_by_role("button", name="Take the link of Picture 1 back").click()
    assert stranger.status_of(link) == stranger.status_of(f"{link}/picture.png") == 404

    chen.page.locator("#merchant").select_option("minimalist-store")  # now for lin's store, too
    with chen.page.expect_navigation():
        chen.page.get_by_role("button", name="Change").click()
    assert chen.status_of(group) == 200
    lin.page.get_by_role("button", name="Log out").click()
    lin.page.wait_for_url("**/welcome")
    assert lin.status_of(str(picture)) == 401


def test_a_form_of_another_page_or_session_changes_nothing(visit: Visit) -> None:
    lin = visit("lin")
    for token in ("", "x", "é"):
        assert lin.status_of("/profile", "POST", form_token=token, feature_style="luxury") == 403
    refused = lin.context.request.post(f"{lin.home}/logout", headers={"origin": "https://elsewhere.example"})
    assert refused.status == 403
    assert lin.context.request.get(lin.home, headers={"host": "elsewhere.example"}).status == 403


def test_chinese_page_and_prompt_make_the_same_pictures(visit: Visit) -> None:
    english, chinese = visit("lin"), visit("lin", locale="zh-CN")
    assert chinese.page.locator("html").get_attribute("lang") == "zh"
    pictures = []
    for person, prompt in ((english, "dress,v-neck"), (chinese, "连衣裙，V领")):
        person.goes_to("/")
        person.types(prompt)
        person.sets(seed="7", num_candidates="2")
        person.page.locator("#variety").select_option("0")
        person.page.locator("[data-send]").click()
        person.waits_for_group()
        shown = person.page.locator("label.picture img").evaluate_all("all => all.map(each => each.src)")
        pictures.append([person.context.request.get(address).body() for address in shown])
    assert pictures[0] == pictures[1]
    expect(chinese.page.locator("h1")).to_have_text("连衣裙、V领")
    expect(english.page.locator("h1")).to_have_text("dress, v-neck")


def test_what_is_not_known_or_not_read_is_told_before_it_is_sent(visit: Visit) -> None:
    lin = visit("lin", locale="zh-CN")
    lin.goes_to("/")
    lin.types("连衣裙，会发光的扣子")
    expect(lin.page.locator(".chip.unknown")).to_have_count(1)
    expect(lin.page.locator("[data-notes]")).to_contain_text("会发光的扣子")
    lin.types(",".join(f"very long unknown phrase number {number}" for number in range(20)))
    expect(lin.page.locator("[data-notes]")).to_contain_text("不会被读取")


def test_the_input_methods_enter_sends_nothing_and_the_comboboxs_adds_a_phrase(visit: Visit) -> None:
    lin = visit("lin", locale="zh-CN")
    page = lin.goes_to("/")
    field = page.get_by_role("combobox")
    field.click()
    typing = lin.context.new_cdp_session(page)
    typing.send("Input.imeSetComposition", {"text": "lian", "selectionStart": 4, "selectionEnd": 4})
    for kind in ("rawKeyDown", "keyUp"):  # as an input method's Enter comes
        typing.send(
            "Input.dispatchKeyEvent", {"type": kind, "key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229}
        )
    typing.send("Input.insertText", {"text": "连衣"})
    expect(page.locator(".phrases .chip")).to_have_count(0)
    expect(field).to_have_value("连衣")
    expect(page.get_by_role("option").first).to_contain_text("连衣裙")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".phrases .chip")).to_have_text(re.compile("连衣裙"))
    assert page.url == f"{lin.home}/"


def test_going_back_finds_the_form_and_the_buttons_as_they_were_left(visit: Visit) -> None:
    lin = visit("lin")
    page = lin.goes_to("/")
    lin.types("constructor,__proto__,dress")
    expect(page.locator(".phrases .chip")).to_have_text(
        [re.compile(each) for each in ("constructor", "proto", "dress")]
    )
    page.reload()
    expect(page.locator(".phrases .chip")).to_have_count(3)
    page.get_by_role("link", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    expect(page.locator(".phrases .chip").last).to_have_text(re.compile("连衣裙"))
    page.get_by_role("link", name="English").click()
    page.locator("[data-send]").click()
    lin.waits_for_group()
    for number in (0, 1):
        page.locator("label.picture").nth(number).click()
    page.get_by_role("button", name="Compare two").click()
    page.locator("figure img").nth(1).wait_for()  # else it goes back from a page that is not there yet
    page.wait_for_load_state()
    assert "form_token" not in page.url
    page.go_back()
    expect(page.get_by_role("button", name="Store my pick")).to_be_enabled()
    expect(page.get_by_role("button", name="Compare two")).to_be_enabled()


def test_a_form_that_cannot_be_sent_says_why(visit: Visit) -> None:
    lin = visit("lin")
    page = lin.goes_to("/")
    page.locator("[data-send]").click()
    expect(page.locator("[data-notes]")).to_have_text("Type a phrase first.")
    expect(page.locator("#prompt")).to_have_attribute("aria-invalid", "true")
    lin.types("dress")
    page.locator("#num_candidates").evaluate("each => each.value = 99")
    page.locator("[data-send]").click()
    expect(page.locator("#num_candidates")).to_be_visible()
    lin.types(",".join(f"{number:04} {'x' * 90}" for number in range(12)))
    expect(page.locator("[data-notes]")).to_contain_text("Too long")


def test_whoever_was_logged_out_is_told_so_and_may_log_in(visit: Visit) -> None:
    lin = visit("lin")
    path = lin.draws("dress", **LONG)
    lin.context.clear_cookies()
    lin.page.reload()
    assert lin.page.url.startswith(f"{lin.home}/welcome")
    assert lin.status_of(path) == 401
    lin.page.locator("main a.button").click()
    lin.page.locator("input[name=sub]").fill("lin")
    lin.page.get_by_role("button", name="Authorize").click()
    lin.waits_for_group()  # back at the round


def test_by_keyboard_alone(visit: Visit) -> None:
    lin = visit("lin")
    page = lin.goes_to("/")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "combobox":
            break
    page.keyboard.type("dress,")
    page.keyboard.press("Control+Enter")
    lin.waits_for_group()
    page.locator("#content").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("End")
    page.keyboard.press("Space")
    checked = page.locator("label.picture input").evaluate_all("all => all.map(each => each.checked)")
    assert checked == [False, True, False, False, True]
    page.keyboard.press("Enter")  # in the grid it submits nothing
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('[data-submit-pick]')"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#picked")).to_contain_text("2 of 5")


def test_without_javascript(visit: Visit) -> None:
    lin = visit("lin", java_script_enabled=False)
    page = lin.goes_to("/")
    page.locator("#prompt").fill("dress, v-neck")
    page.locator("[data-send]").click()
    lin.waits_for_group()
    page.locator("label.picture").first.click()
    page.get_by_role("button", name="Store my pick").click()
    expect(page.locator("#picked")).to_contain_text("1 of 5")


def test_a_reference_is_dropped_pasted_or_chosen_and_a_wrong_one_is_refused_before_it_is_sent(visit: Visit) -> None:
    lin = visit("lin")
    page = lin.goes_to("/")
    written = io.BytesIO()
    Image.new("RGB", (80, 60), "teal").save(written, "PNG")
    lin.types("dress")
    page.locator("details.more").evaluate("each => each.open = true")
    page.locator("#reference_image").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"x"})
    expect(page.locator(".reference .problem")).to_have_text("Choose a PNG or JPEG picture")
    for event in ("drop", "paste"):
        page.evaluate(
            """async ([event, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
                document.dispatchEvent(event === "drop"
                    ? new DragEvent("drop", {dataTransfer: data, bubbles: true})
                    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
            }""",
            [event, list(written.getvalue())],
        )
        expect(page.locator(".reference img")).to_be_visible()
        page.get_by_role("button", name="Take it away").click()
        expect(page.locator(".reference img")).to_have_count(0)
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": written.getvalue()}
    page.locator("#reference_image").set_input_files(picture)
    page.locator("[data-send]").click()
    lin.waits_for_group()


def test_what_the_platform_refuses_stands_at_its_field_and_the_form_is_kept(visit: Visit) -> None:
    lin = visit("lin")
    page = lin.goes_to("/")
    lin.types("dress,belted")
    page.locator("form.order").evaluate("each => each.noValidate = true")
    lin.sets(num_candidates="99", seed="7")
    page.locator("[data-send]").click()
    expect(page.locator("#num_candidates-problem")).to_contain_text("1 to 16")
    expect(page.locator("#seed")).to_have_value("7")
    expect(page.locator(".phrases .chip")).to_have_count(2)


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_every_page_can_be_heard_and_fits_a_phone(visit: Visit, locale: str) -> None:
    chen = visit("chen", locale=locale, viewport=PHONE)
    chen.draws("dress")
    group = chen.waits_for_group()
    chen.page.locator('button[name="starred"]').first.click()
    chen.page.locator('button[name="shared"]').first.click()
    shared = str(chen.page.locator("a.link").first.get_attribute("href")).removeprefix(chen.home)
    images = chen.page.locator("label.picture input").evaluate_all("all => all.map(each => each.value)")
    compared = f"{group}/compare?image_id={images[0]}&image_id={images[1]}"
    for path in ("/", group, compared, "/history", "/kept", "/profile", shared, "/nothing"):
        chen.goes_to(path)
        chen.page.locator("details.more").evaluate_all("all => all.forEach(each => each.open = true)")
        assert chen.serious() == [], path
        assert chen.width() <= 0, path
    zoomed = visit(
        "chen", locale=locale, viewport={"width": 640, "height": 400}, device_scale_factor=2
    )  # 1280 at 200 %
    for path in ("/", group, "/profile"):
        zoomed.goes_to(path)
        assert zoomed.width() <= 0, path


def test_the_first_page_is_small(visit: Visit) -> None:
    lin = visit("lin")
    sizes: list[int] = []
    lin.page.on("response", lambda answer: sizes.append(len(answer.body()) if answer.status == 200 else 0))
    lin.goes_to("/")
    lin.page.wait_for_load_state("networkidle")
    assert 10_000 < sum(sizes) <= 100_000
