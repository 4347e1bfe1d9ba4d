// A picture to start from: chosen, dropped or pasted; shown as it will be sent.
const KINDS = ["image/png", "image/jpeg"];

export function reference(box) {
  const input = box.querySelector('input[type="file"]');
  const hint = box.querySelector(".hint");
  const shown = document.createElement("div");
  hint.after(shown);

  function take(file) {
    const list = new DataTransfer();
    list.items.add(file);
    input.files = list.files;
    show();
    box.closest("details").open = true;
  }

  function show() {
    shown.replaceChildren();
    const file = input.files[0];
    if (!file) return;
    const most = Number(box.dataset.bytes);
    const problem = !KINDS.includes(file.type) ? box.dataset.wrong
      : file.size > most ? box.dataset.large.replace("{megabytes}", Math.floor(most / 2 ** 20)) : "";
    if (problem) {
      input.value = "";
      const told = Object.assign(document.createElement("p"), { className: "problem", textContent: problem });
      told.setAttribute("role", "alert");
      shown.append(told);
      return;
    }
    const picture = Object.assign(new Image(), { alt: box.dataset.alt, src: URL.createObjectURL(file) });
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
    const drop = Object.assign(document.createElement("button"), { type: "button", className: "small", textContent: box.dataset.drop });
    drop.addEventListener("click", () => { input.value = ""; show(); input.focus(); });
    shown.append(picture, drop);
  }

  input.addEventListener("change", show);
  document.addEventListener("paste", (event) => {
    if (!box.isConnected || event.clipboardData?.types.includes("text/plain")) return; // a text with its picture is a text
    const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
    if (file) { event.preventDefault(); take(file); }
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!box.isConnected || ![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      box.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    });
  }
  show();
}
