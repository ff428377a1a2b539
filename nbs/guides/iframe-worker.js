// Read from a file, a page may not start a worker, and the search runs in one: an invisible frame does its work.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget { // the theme looks for the first name
    constructor(url) {
      super();
      const base = new URL(url, location.href), frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      const load = (src) => new Promise((onload, onerror) => {
        inside.document.body.append(Object.assign(inside.document.createElement("script"), { src, onload, onerror }));
      });
      inside.importScripts = (...urls) => urls.reduce((all, u) => all.then(() => load(new URL(u, base))), Promise.resolve());
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.inside = inside;
      this.ready = load(base);
    }
    set onmessage(listener) { this.addEventListener("message", listener); }
    postMessage(data) { this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data }))); }
    terminate() {}
  };
}
