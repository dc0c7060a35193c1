// Marks the image that is shown as a key image, or takes the mark away.
const look = document.getElementById("look");
const button = look.querySelector("[data-does=key]");
const keys = JSON.parse(look.dataset.keys); // [{id, uid, frame, own}]
let shown = null;

const markOf = () => keys.find((one) => one.uid === shown.uid && one.frame === shown.frame);

function draw() {
  const mark = markOf();
  button.setAttribute("aria-pressed", String(Boolean(mark)));
  button.disabled = Boolean(mark && !mark.own);
  button.title = button.disabled ? "Marked by somebody else" : "";
}

async function toggle() {
  const mark = markOf(), { uid, frame } = shown;
  button.disabled = true;
  const answer = mark
    ? await fetch(`/api/v1/key-images/${mark.id}`, { method: "DELETE" })
    : await fetch(`/api/v1/studies/${look.dataset.study}/key-images`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sop_instance_uid: uid, frame_number: frame }),
    });
  if (mark && (answer.ok || answer.status === 404)) keys.splice(keys.indexOf(mark), 1);
  else if (answer.ok) keys.push({ id: (await answer.json()).id, uid, frame, own: true });
  draw();
  if (!answer.ok) button.title = (await answer.json()).detail;
}

look.addEventListener("shown", (event) => {
  shown = event.detail;
  draw();
});
button.addEventListener("click", toggle);
button.hidden = false;
