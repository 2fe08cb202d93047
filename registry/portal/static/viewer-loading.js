// Fetches pictures: a few at once, those that are not wanted any more are aborted, those that came are kept within a bound.

/** Why something cannot be shown: `words` for the reader; `passing` where it may come by itself; `ended` with the session. */
export class Failure extends Error {
  constructor(words, { passing = false, ended = false, holders = [] } = {}) {
    super(words);
    Object.assign(this, { words, passing, ended, holders, at: Date.now() });
  }
}

const NO_ANSWER = "This service does not answer.";
const BUSY = new Set(["Busy", "OverShare"]); // kinds of problems: too many ask at once, nothing is broken

/** GET as a Response that is good; raises Failure, or AbortError where `signal` said so. */
export async function get(url, accept, signal) {
  let answer;
  try {
    answer = await fetch(url, { headers: { Accept: accept }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(NO_ANSWER, { passing: true });
  }
  if (answer.ok) return answer;
  throw await failureOf(answer);
}

async function failureOf(answer) {
  let said = {}; // problem details (RFC 9457)
  try {
    said = await answer.json();
  } catch {
    // no reason given
  }
  const named = answer.headers.get("Crosslight-Holder") || String(said.where ?? "");
  const holders = named.split(",").filter((code) => siteOf(code));
  const who = holders.length ? holders.map(nameOf).join(" and ") : "This service";
  const what = typeof said.title === "string" ? said.title : "";
  if (BUSY.has(said.kind)) return new Failure(`${who} is busy.`, { passing: true, holders });
  switch (answer.status) {
    case 401: return new Failure("Your session has ended.", { ended: true, holders });
    case 403: return new Failure(`${who} refuses to show this. ${what}`.trim(), { holders });
    case 404: case 410: return new Failure(holders.length ? `${who} does not have this image any more.` : "This image is not listed any more.", { holders });
    case 406: case 415: return new Failure(what || "This object cannot be shown as a picture.", { holders });
    case 413: return new Failure(`This picture is too large to be shown here. ${what}`.trim(), { holders });
    case 429: case 500: case 502: case 503: case 504: case 507:
      return new Failure(holders.length ? `${who} does not answer.` : NO_ANSWER, { passing: true, holders });
    default: return new Failure(`${who} cannot show this. ${what}`.trim(), { holders });
  }
}

/** A trust's place in the page's strip, by its code; null for what is none. */
export const siteOf = (code) => (code ? document.querySelector(`[data-site="${CSS.escape(code)}"]`) : null);

/** A trust's name, as the strip has it. */
export const nameOf = (code) => siteOf(code)?.querySelector(".site__name")?.firstChild?.textContent.trim() || code;

/** Whether a trust is known to be away. */
export const isAway = (code) => Boolean(siteOf(code)?.classList.contains("site--away"));

/** Pictures by their address. `came(url)` and `failed(url, Failure)` are called as each ends; an aborted one ends silently. */
export class Loader {
  #flying = new Map(); // url -> AbortController
  #kept = new Map(); // url -> Blob, the young last
  #bytes = 0;
  #queue = [];
  #parallel = 0;

  constructor({ keep = 64 << 20, came, failed }) {
    Object.assign(this, { keep, came, failed });
  }

  has(url) { return this.#kept.has(url); }

  get flying() { return [...this.#flying.keys()]; }

  /** Ask for these, first first, `parallel` at once; abort everything else. */
  plan(urls, parallel) {
    const wanted = new Set(urls);
    for (const [url, control] of this.#flying) {
      if (!wanted.has(url)) {
        this.#flying.delete(url);
        control.abort();
      }
    }
    this.#queue = urls.filter((url) => !this.#kept.has(url) && !this.#flying.has(url));
    this.#parallel = parallel;
    this.#next();
  }

  #next() {
    while (this.#flying.size < this.#parallel && this.#queue.length) this.#start(this.#queue.shift());
  }

  async #start(url) {
    const control = new AbortController();
    this.#flying.set(url, control);
    let problem = null;
    try {
      const answer = await get(url, "image/jpeg", control.signal);
      this.#keep(url, await answer.blob());
    } catch (error) {
      if (control.signal.aborted) return;
      problem = error instanceof Failure ? error : new Failure("The picture broke off.", { passing: true });
    }
    if (control.signal.aborted) return;
    this.#flying.delete(url);
    if (problem) this.failed(url, problem);
    else this.came(url);
    this.#next();
  }

  #keep(url, blob) {
    this.#kept.set(url, blob);
    this.#bytes += blob.size;
    for (const [old, its] of this.#kept) {
      if (this.#bytes <= this.keep || old === url) break;
      this.#kept.delete(old);
      this.#bytes -= its.size;
    }
  }

  /** The picture, decoded; to be closed by whoever asked. */
  async bitmap(url) {
    const blob = this.#kept.get(url);
    if (!blob) return null;
    this.#kept.delete(url);
    this.#kept.set(url, blob); // to the young end
    try {
      return await createImageBitmap(blob);
    } catch {
      this.#kept.delete(url);
      this.#bytes -= blob.size;
      throw new Failure("This picture cannot be read by the browser.");
    }
  }

  /** Ask for nothing more. */
  stop() { this.plan([], 0); }
}
