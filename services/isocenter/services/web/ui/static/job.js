// Moves the bar of a job that is shown as the job goes on, and shows the page anew when its state is
// another one.  Without scripts the page says how it was when it was asked for.
"use strict";

const bar = document.getElementById("job-progress");
const { job, state } = bar.dataset;
const source = new EventSource(`/api/v1/jobs/${job}/progress/stream`);

function heard(event) {
  const message = JSON.parse(event.data);
  const { total, done, skipped, failed } = message.progress;
  if (message.new_status !== state || (total !== null && !bar.hasAttribute("max"))) {
    source.close();
    location.reload();
    return;
  }
  if (total) bar.value = done + skipped + failed;
  bar.title = `${done} of ${total ?? "?"} objects`;
}

for (const kind of ["connected", "progress", "status"]) source.addEventListener(kind, heard);
addEventListener("pagehide", () => source.close());
