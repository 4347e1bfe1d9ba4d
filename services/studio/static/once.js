// A form that is sent once, however often its button is clicked; and the time that a field names, as it is here.
export function once(form) {
  const buttons = [...form.querySelectorAll("button")];
  form.addEventListener("submit", () => setTimeout(() => buttons.forEach((button) => { button.disabled = true; })));
  window.addEventListener("pageshow", (event) => {
    buttons.forEach((button) => { button.disabled = false; });
    const id = form.elements.request_id;
    if (event.persisted && id) id.value = crypto.randomUUID(); // it was sent: the next one is another
  });
}

export function local(hint) {
  const field = document.getElementById(hint.dataset.local);
  function show() {
    const time = new Date(`${field.value}Z`);
    hint.textContent = Number.isNaN(time.getTime()) ? ""
      : hint.dataset.said.replace("{time}", time.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" }));
  }
  field.addEventListener("input", show);
  show();
}
