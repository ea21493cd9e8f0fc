/** The dashboard: which page is shown, and what all pages share. */

import { read, TOKEN_REFUSED } from "./api.js";
import * as clock from "./clock.js";
import { element } from "./elements.js";
import { moment } from "./format.js";
import { frameTop } from "./frame.js";
import { healthLine } from "./health.js";
import { keepReading } from "./live.js";
import { noticeBoard, sentence } from "./notices.js";
import { pipelineNames } from "./pipelines.js";
import { place, runsPlace } from "./places.js";
import { runPage } from "./run_page.js";
import { runsPage } from "./runs_page.js";
import { endedAt, signInByFragment, signOut, token } from "./session.js";
import { signInPage } from "./sign_in.js";
import { applyTheme } from "./theme.js";

const HEALTH_EVERY_SECONDS = 5;
const app = document.getElementById("app");
let leave = () => {};

/** Asks for a token, with the reason why there is none (any more). */
function showSignIn(reason = "") {
  leave();
  leave = () => {};
  const page = signInPage(reason, showRuns);
  app.replaceChildren(page.node);
  document.title = `${page.title()} · Pipeline runs`;
  page.begin();
}

/** Shows runs until one signs out or the token ends. */
function showRuns() {
  leave();
  const notices = noticeBoard();
  const health = healthLine();
  const top = frameTop(() => {
    signOut();
    showSignIn();
  });
  const room = element("div", { class: "room" });
  let info = null;
  let lastList = runsPlace();
  let page = null;
  const shared = {
    pipelines: pipelineNames(),
    notices,
    info: () => info,
    backPlace: () => lastList,
  };

  function showPlace() {
    const here = place(location.hash);
    if (here.filters) {
      lastList = runsPlace(here.filters);
    }
    if (here.filters && page?.change) {
      page.change(here);
      return;
    }
    const isFirst = !page;
    page?.leave();
    page = here.filters ? runsPage(shared, here) : runPage(shared, here);
    room.replaceChildren(page.node);
    document.title = `${page.title()} · Pipeline runs`;
    if (!isFirst) {
      scrollTo(0, 0);
      page.node.focus({ preventScroll: true });
    }
  }

  async function lookAtService(signal) {
    const { body } = await read("service-info", { signal });
    clock.setByService(body.now);
    const isFirst = !info;
    info = body;
    top.showStage(info.stage);
    health.show(info);
    page?.tellInfo(info);
    if (isFirst) {
      showPlace();
    }
    return HEALTH_EVERY_SECONDS;
  }

  app.replaceChildren(top.node, notices.node, health.node, room);
  room.append(element("main", { id: "content", tabindex: -1, "aria-busy": "true" }));
  const onPlace = () => info && showPlace();
  const looking = keepReading(lookAtService, (problem, seconds) => {
    if (problem?.status === 403) {
      signOut();
      showSignIn(sentence(problem));
      return;
    }
    if (problem) {
      health.doubt();
    }
    notices.tell("service", problem, seconds, () => looking.again());
  });
  window.addEventListener("hashchange", onPlace);
  leave = () => {
    window.removeEventListener("hashchange", onPlace);
    looking.stop();
    page?.leave();
  };
}

function showRefused({ detail: problem }) {
  if (!token()) {
    return;
  }
  const ended = endedAt();
  signOut();
  showSignIn(
    ended
      ? `Your token ended at ${moment(ended, Date.now())}. Sign in with a new one.`
      : `The token was refused: ${sentence(problem)}`,
  );
}

function takeFragment() {
  if (signInByFragment()) {
    showRuns();
  }
}

document.addEventListener(TOKEN_REFUSED, showRefused);
// Before the pages hear of it: a token is no place.
window.addEventListener("hashchange", takeFragment);
applyTheme();
clock.start();
signInByFragment();
if (token()) {
  showRuns();
} else {
  showSignIn();
}
