// A round as it runs: the browser's own EventSource asks again after a cut, and says what it has seen.
export function round(box, follow) {
  const text = box.querySelector("[data-text]");
  const said = box.querySelector("[data-said]"); // to a screen reader: each stage once, not each step
  const stage = box.querySelector("[data-stage]");
  const progress = box.querySelector("[data-progress]");
  const previews = [...box.querySelectorAll("[data-previews] li")];
  if (["done", "failed", "cancelled"].includes(stage.dataset.stage)) return;

  let source;
  let over = false;
  const open = () => {
    source?.close();
    if (over) return;
    source = new EventSource(box.dataset.round);
    source.addEventListener("state", (event) => show(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      text.textContent = box.dataset.cut;
      if (source.readyState === EventSource.CLOSED) setTimeout(again, 2000); // refused: the studio starts again, say
    });
  };

  async function again() {
    const answer = await fetch(box.dataset.round.replace(/\/events$/, ""), { redirect: "manual" }).catch(() => null);
    if (answer && (answer.status === 401 || answer.status === 404)) location.reload(); // it says why
    else open();
  }

  function show(state) {
    text.textContent = state.text;
    if (stage.dataset.stage !== state.stage) said.textContent = state.text;
    stage.dataset.stage = state.stage;
    document.title = `${state.text} · PerFusion`;
    if (state.num_steps) {
      progress.max = state.num_steps;
      progress.value = state.step;
    }
    state.previews.forEach((address, place) => {
      const shown = previews[place]?.firstElementChild;
      if (!shown || shown.src?.endsWith(address)) return;
      const next = new Image(192, 192); // shown once it is there, so that nothing flickers
      next.alt = shown.alt || shown.dataset.alt;
      next.addEventListener("load", () => previews[place].replaceChildren(next));
      next.src = address;
    });
    if (!state.is_over) return;
    over = true;
    source.close();
    if (state.goes_to) follow(state.goes_to);
    else location.reload();
  }

  document.addEventListener("visibilitychange", () => { // a display that slept may have lost the stream unseen
    if (!over && !document.hidden && source.readyState !== EventSource.OPEN) open();
  });
  window.addEventListener("online", open);
  open();
}
