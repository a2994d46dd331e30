// Server-sent events over fetch: unlike EventSource it can tell why it was refused, and it sees the
// comment lines, so that a connection that died in silence is noticed.

export interface Message {
  event: string;
  data: string;
}

/** Takes the text as it comes; gives the messages that are complete. */
export class Parser {
  private rest = '';
  private event = '';
  private data: string[] = [];

  push(chunk: string): Message[] {
    const messages: Message[] = [];
    const lines = (this.rest + chunk).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? '';
    for (const line of lines) {
      const message = this.line(line);
      if (message) messages.push(message);
    }
    return messages;
  }

  private line(line: string): Message | null {
    if (line === '') {
      const message = { event: this.event || 'message', data: this.data.join('\n') };
      const empty = this.data.length === 0;
      this.event = '';
      this.data = [];
      return empty ? null : message;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return null;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.event = value;
    if (name === 'data') this.data.push(value);
    return null;
  }
}

/** Reads until the stream ends, fails, is aborted, or is silent for `silence_ms`. */
export async function read(
  body: ReadableStream<Uint8Array>,
  silenceMs: number,
  take: (message: Message) => void,
): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new Parser();
  try {
    for (;;) {
      const chunk = await within(reader.read(), silenceMs);
      if (chunk.done) return;
      for (const message of parser.push(decoder.decode(chunk.value, { stream: true }))) take(message);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function within<T>(promise: Promise<T>, limitMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('silent')), limitMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
