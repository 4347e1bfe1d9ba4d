// A picture that is rated: how long it was on the screen while somebody could see it, and the keys of its questions.
export function rating(form) {
  const picture = document.querySelector("[data-looked]");
  const wait = form.querySelector("[data-wait]");
  const send = form.querySelector("[data-send]");
  const least = Number(form.dataset.least);
  const draft = `rating:${location.pathname}`; // what was chosen and not stored yet, if the page is loaded again
  let looked = 0; // ms before `since`
  let since = null; // when it came into sight; null while nobody sees it
  let isSent = false;

  const isLoaded = () => picture.complete && picture.naturalWidth > 0;
  const dwell = () => Math.round(looked + (since === null ? 0 : performance.now() - since));

  function look() {
    const isSeen = isLoaded() && !document.hidden;
    if (isSeen && since === null) since = performance.now();
    if (!isSeen && since !== null) { looked = dwell(); since = null; }
  }

  function tell() {
    if (!form.isConnected) return;
    const left = least - dwell();
    if (!isSent) send.disabled = left > 0;
    const said = left > 0 ? wait.dataset.said.replace("{seconds}", String(Math.ceil(left / 1000))) : least ? wait.dataset.done : "";
    wait.setAttribute("aria-live", left > 0 ? "off" : "polite"); // a screen reader hears the end, not each second
    if (wait.textContent !== said) wait.textContent = said;
    if (left > 0) setTimeout(tell, 200);
  }

  function report() { // a page that is left without an answer was looked at, too
    look();
    if (!isSent && form.isConnected) {
      const said = new URLSearchParams({ form_token: form.elements.form_token.value, view_id: form.elements.view_id.value, dwell_ms: String(dwell()) });
      navigator.sendBeacon(form.dataset.seen, said);
    }
  }

  form.addEventListener("submit", (event) => {
    if (dwell() < least) { event.preventDefault(); event.stopImmediatePropagation(); return; }
    look();
    form.elements.dwell_ms.value = String(dwell());
    isSent = true;
    sessionStorage.removeItem(draft);
  }, true);

  form.addEventListener("change", () => {
    const chosen = [...form.querySelectorAll(":checked")].map((radio) => [radio.name, radio.value]);
    sessionStorage.setItem(draft, JSON.stringify(chosen));
  });

  form.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!send.disabled) form.requestSubmit(send);
      return;
    }
    const question = event.target.closest("fieldset");
    if (!question || event.ctrlKey || event.metaKey || event.altKey) return;
    const radio = [...question.querySelectorAll("input")].find((each) => each.value === event.key);
    if (!radio) return;
    event.preventDefault();
    radio.checked = true;
    radio.dispatchEvent(new Event("change", { bubbles: true }));
    const next = question.nextElementSibling?.querySelector("input");
    (next ? [...question.nextElementSibling.querySelectorAll("input")].find((each) => each.checked) ?? next : send.disabled ? radio : send).focus();
  });

  for (const [name, value] of JSON.parse(sessionStorage.getItem(draft) ?? "[]")) {
    const radio = [...form.querySelectorAll("input[type=radio]")].find((each) => each.name === name && each.value === value);
    if (radio) radio.checked = true;
  }
  picture.addEventListener("load", () => { look(); tell(); });
  document.addEventListener("visibilitychange", () => (document.hidden ? report() : look()));
  window.addEventListener("pagehide", report);
  window.addEventListener("pageshow", (event) => { // once.js has just enabled the button
    if (event.persisted) location.reload(); // a new look at it
    else tell();
  });
  look();
  tell();
}
