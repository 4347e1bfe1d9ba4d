// The pick: arrows go from picture to picture, the buttons say what can be done now.
export function picks(form) {
  const boxes = [...document.querySelectorAll(`input[name="image_id"][form="${form.id}"]`)];
  const compare = form.querySelector("[data-compare]");
  const submit = form.querySelector("[data-submit-pick]");

  function update() {
    const count = boxes.filter((box) => box.checked).length;
    compare.disabled = count !== 2;
    submit.disabled = count === 0;
  }

  form.addEventListener("keydown", (event) => {
    const at = boxes.indexOf(event.target);
    if (at < 0) return;
    const columns = Math.max(1, getComputedStyle(form.querySelector("[data-grid]")).gridTemplateColumns.split(" ").length);
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    const next = { Home: 0, End: boxes.length - 1 }[event.key] ?? (step ? at + step : -1);
    if (next >= 0 && next < boxes.length) {
      event.preventDefault();
      boxes[next].focus();
    } else if (event.key === "Enter") {
      event.preventDefault(); // a pick is stored by its button alone
    }
  });
  form.addEventListener("change", update);
  form.addEventListener("reset", () => setTimeout(update));
  window.addEventListener("pageshow", () => setTimeout(update)); // a browser that goes back checks boxes late
  update();
}
