/** Reading again and again, with regard for the API and for who doesn't look. */

const LONGEST_PAUSE_SECONDS = 60;

/**
 * Reads until it is stopped, not while the page is hidden.
 *
 * `look(signal)` reads once and resolves to the seconds until the next time, or to null: there is
 * nothing more to come. When it fails for a passing reason, it is called again after a pause that
 * doubles, or as long as the API asks for. `tell(problem, seconds)` hears of each failure, with the
 * pause that follows (null: it is given up), and with nothing once all is well.
 *
 * Gives `{stop, again}`: `again` reads at once, also after the end.
 */
export function keepReading(look, tell) {
  const stopping = new AbortController();
  const { signal } = stopping;
  let failures = 0;
  let isReading = false;
  let wake = () => {};

  function pause(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async function once() {
    try {
      const seconds = await look(signal);
      if (!signal.aborted) {
        failures = 0;
        tell(null);
      }
      return seconds;
    } catch (problem) {
      if (signal.aborted) {
        return null;
      }
      failures += 1;
      const longest = Math.min(2 ** failures, LONGEST_PAUSE_SECONDS);
      const seconds = problem.isPassing ? Math.max(problem.retryAfter, longest) : null;
      tell(problem, seconds);
      if (problem.isPassing === undefined) {
        throw problem;
      }
      return seconds;
    }
  }

  async function goOn() {
    isReading = true;
    try {
      while (!signal.aborted) {
        await shown();
        const seconds = signal.aborted ? null : await once();
        if (seconds === null) {
          return;
        }
        await pause(seconds);
      }
    } finally {
      isReading = false;
    }
  }

  goOn();
  return {
    stop() {
      stopping.abort();
      wake();
    },
    again() {
      if (isReading) {
        wake();
      } else {
        goOn();
      }
    },
  };
}

/** Once the page is to be seen. */
function shown() {
  if (!document.hidden) {
    return Promise.resolve();
  }
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true });
  }).then(shown);
}
