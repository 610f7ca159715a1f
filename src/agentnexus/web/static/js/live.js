// Live pages: keep the log at its end while the reader is there, and say when the connection is lost.
import { toast } from "./toast.js";

const NEAR_END_PX = 40;

export function setUpLive() {
  const live = document.querySelector("[data-live]");
  scrollLog(true);
  if (!live) return;
  let following = true;
  document.addEventListener("htmx:sse:before:message", () => {
    const log = document.querySelector("[data-log]");
    following = !log || log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
  });
  document.addEventListener("htmx:sse:after:message", () => scrollLog(following));
  document.addEventListener("htmx:sse:error", () => toast("The live connection was lost. Trying again…"));
}

function scrollLog(wanted) {
  const log = document.querySelector("[data-log]");
  if (log && wanted) log.scrollTop = log.scrollHeight;
}
