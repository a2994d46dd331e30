// A browser, a page of the console in it, and what must never happen there.

import axe from 'axe-core';
import { existsSync } from 'node:fs';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';

const PROGRAM = process.env.CHROMIUM ?? '/usr/bin/chromium';

export async function launch(more: string[] = []): Promise<Browser> {
  if (!existsSync(PROGRAM)) throw new Error(`there is no ${PROGRAM}: install Debian's package chromium, or name a program by CHROMIUM`);
  return chromium.launch({
    executablePath: PROGRAM,
    args: [
      '--no-sandbox',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...more,
    ],
  });
}

export interface Visit {
  page: Page;
  context: BrowserContext;
  /** Errors of scripts and refusals of the content security policy. */
  complaints: string[];
  /** Requests to anywhere but the console itself. */
  strays: string[];
}

interface Options {
  language?: 'zh' | 'en';
  dark?: boolean;
  phone?: boolean;
}

export async function visit(browser: Browser, origin: string, options: Options = {}): Promise<Visit> {
  const context = await browser.newContext({
    locale: options.language === 'zh' ? 'zh-CN' : 'en-GB',
    timezoneId: 'Asia/Shanghai',
    colorScheme: options.dark ? 'dark' : 'light',
    viewport: options.phone ? { width: 390, height: 844 } : { width: 1280, height: 800 },
    reducedMotion: 'reduce',
    ignoreHTTPSErrors: true,
  });
  const page = await context.newPage();
  const complaints: string[] = [];
  const strays: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (/content security policy/i.test(message.text())) complaints.push(message.text());
  });
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith('data:') && !url.startsWith('blob:')) strays.push(url);
  });
  await page.goto(`${origin}/`);
  return { page, context, complaints, strays };
}

export async function logIn(page: Page, name: string, password: string): Promise<void> {
  await page.fill('#name', name);
  await page.fill('#password', password);
  await page.click('button[type=submit]');
  await page.waitForSelector('[data-testid=overview]');
}

/** Goes to a page of the console. */
export async function go(page: Page, hash: string): Promise<void> {
  await page.evaluate((to) => {
    location.hash = to;
  }, hash);
}

/** WCAG 2.1 A and AA as far as axe can tell, on what is shown now. */
export async function accessible(page: Page, what: string): Promise<void> {
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    const tool = (globalThis as unknown as { axe: typeof axe }).axe;
    const result = await tool.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] });
    return result.violations.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.html} ${node.failureSummary ?? ''}`).join('\n  ')}`);
  });
  expect(found, what).toEqual([]);
}
