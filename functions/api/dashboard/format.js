/** How times, durations and sizes are written. Times are the viewer's; their titles are in UTC. */

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const TIME = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const HOUR_AND_MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const WHOLE = new Intl.NumberFormat("en-GB");

/** Milliseconds in words, in two units at most: `3 min 12 s`. */
export function duration(milliseconds) {
  const spent = Math.max(0, milliseconds);
  if (spent < 9.95 * SECOND) {
    return `${(spent / SECOND).toFixed(1).replace(/\.0$/, "")} s`;
  }
  if (spent < MINUTE) {
    return `${Math.floor(spent / SECOND)} s`;
  }
  if (spent < HOUR) {
    return joined(spent, MINUTE, "min", SECOND, "s");
  }
  return spent < DAY ? joined(spent, HOUR, "h", MINUTE, "min") : joined(spent, DAY, "d", HOUR, "h");
}

function joined(spent, large, largeName, small, smallName) {
  const rest = Math.floor((spent % large) / small);
  const first = `${Math.floor(spent / large)} ${largeName}`;
  return rest ? `${first} ${rest} ${smallName}` : first;
}

/** How long ago something was: `12 s ago`. */
export function ago(milliseconds) {
  if (milliseconds < SECOND) {
    return "just now";
  }
  const steps = [SECOND, MINUTE, HOUR, DAY];
  const step = steps.findLast((one) => milliseconds >= one);
  return `${duration(Math.floor(milliseconds / step) * step)} ago`;
}

/** A moment, without the date if it is today's. */
export function moment(at, today) {
  const isToday = new Date(at).toDateString() === new Date(today).toDateString();
  return isToday ? TIME.format(at) : `${DATE.format(at)}, ${TIME.format(at)}`;
}

/** A moment on an axis whose marks are so far apart. */
export function mark(at, apart) {
  const isMidnight = new Date(at).getHours() === 0 && new Date(at).getMinutes() === 0;
  if (apart >= DAY || (isMidnight && apart >= MINUTE)) {
    return DATE.format(at);
  }
  return apart < MINUTE ? TIME.format(at) : HOUR_AND_MINUTE.format(at);
}

/** Bytes in words. */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const amount = bytes / 1000 ** power;
  return `${power ? amount.toPrecision(3) : amount} ${units[power]}`;
}

/** A number with its thousands apart. */
export function count(number) {
  return WHOLE.format(number);
}
