// A part of a page that changes by itself: it is fetched again now and then, and the whole page once its state is another.
export function live(box, follow) {
  const said = box.parentElement.querySelector("[data-said]"); // to a screen reader: each state once
  const part = () => box.querySelector("[data-live-part]");
  let timer;

  async function look() {
    clearTimeout(timer);
    const every = Number(part().dataset.every);
    if (!box.isConnected || !every) return;
    const answer = document.hidden ? null
      : await fetch(box.dataset.live, { headers: { accept: "text/html" }, redirect: "manual" }).catch(() => null);
    if (!box.isConnected) return;
    if (answer?.status === 401 || answer?.status === 404) { location.reload(); return; } // it says why
    const next = answer?.ok && new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live-part]");
    if (!next || !replaced(next)) timer = setTimeout(look, every);
  }

  // Whether the page has come to another state, for which it has other forms.
  function replaced(next) {
    const isAnother = next.dataset.mark !== part().dataset.mark;
    if (next.outerHTML !== part().outerHTML) part().replaceWith(next);
    if (!isAnother) return false;
    said.textContent = next.querySelector("[data-state]").textContent;
    if (!isTyped()) { follow(location.href); return true; }
    const told = Object.assign(document.createElement("p"), { className: "warning" });
    told.append(Object.assign(document.createElement("a"), { href: location.href, textContent: box.dataset.changed }));
    box.append(told);
    return true;
  }

  // Whether somebody has typed or chosen what another page would lose.
  function isTyped() {
    const chosen = (each) => ([...each.options].find((one) => one.defaultSelected) ?? each.options[0]) !== each.selectedOptions[0];
    return [...document.querySelectorAll("main input:not([type=hidden]), main textarea")].some((each) => each.value !== each.defaultValue)
      || [...document.querySelectorAll("main select")].some(chosen);
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  timer = setTimeout(look, Number(part().dataset.every));
}
