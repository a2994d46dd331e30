// Every page in both languages: shown, accessible, with no request elsewhere; pictures of it if wanted.

import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { start } from '../mock/server.mjs';
import { accessible, go, launch, logIn, type Visit, visit } from './browser';

const SHOTS = process.env.CONSOLE_SHOTS;

const PAGES: [name: string, hash: string, ready: string][] = [
  ['overview', '#/', '[data-testid=overview]'],
  ['groups', '#/groups', '[data-group=shop]'],
  ['group', '#/groups/shop', '.react-flow__node'],
  ['nodes', '#/nodes', '[data-node=node2]'],
  ['mirrors', '#/mirrors', '.card'],
  ['events', '#/events', 'tbody tr.ant-table-row'],
  ['what-if', '#/what-if', '[data-testid=ask]'],
  ['config', '#/config', '.toml'],
  ['accounts', '#/accounts', 'tbody tr'],
  ['password', '#/password', '#old'],
];

let mock: Awaited<ReturnType<typeof start>>;
let browser: Browser;
beforeAll(async () => {
  mock = await start();
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await mock?.stop();
});

const shot = async ({ page }: Visit, name: string, whole = true) => {
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage: whole, scale: 'css' });
};

async function tidy(seen: Visit): Promise<void> {
  expect(seen.complaints).toEqual([]);
  expect(seen.strays).toEqual([]);
  await seen.context.close();
}

describe.each(['zh', 'en'] as const)('in %s', (language) => {
  it('the log-in page explains itself, also without accounts', async () => {
    const seen = await visit(browser, mock.url, { language });
    await seen.page.waitForSelector('#name');
    await accessible(seen.page, 'log-in');
    await shot(seen, `login-${language}`, false);
    await fetch(`${mock.url}/mock`, { method: 'POST', body: JSON.stringify({ setup: true }) });
    await seen.page.reload();
    await seen.page.waitForSelector('[data-testid=setup]');
    await accessible(seen.page, 'log-in without accounts');
    await fetch(`${mock.url}/mock`, { method: 'POST', body: JSON.stringify({ setup: false }) });
    await tidy(seen);
  });

  it.each(['well', 'trouble'])('every page is shown and accessible when the cluster is in the scene: %s', async (scene) => {
    mock.world.reset(scene);
    const seen = await visit(browser, mock.url, { language });
    await logIn(seen.page, 'admin', 'practice-admin');
    for (const [name, hash, ready] of PAGES) {
      await go(seen.page, hash);
      await seen.page.waitForSelector(ready);
      await seen.page.waitForTimeout(300);
      const wide = await seen.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(wide, `${name} is wider than the window`).toBeLessThanOrEqual(0);
      await accessible(seen.page, `${name}, ${scene}`);
      if (scene === 'trouble' || ['overview', 'group'].includes(name)) {
        await shot(seen, scene === 'trouble' ? `${name}-${language}` : `${name}-well-${language}`);
      }
    }
    await tidy(seen);
    mock.world.reset('well');
  });

  it('pages are accessible in dark colours', async () => {
    mock.world.reset('trouble');
    const seen = await visit(browser, mock.url, { language, dark: true });
    await logIn(seen.page, 'admin', 'practice-admin');
    for (const [name, hash, ready] of PAGES) {
      await go(seen.page, hash);
      await seen.page.waitForSelector(ready);
      await seen.page.waitForTimeout(300);
      await accessible(seen.page, `${name}, dark`);
      if (name === 'group') await shot(seen, `${name}-dark-${language}`);
    }
    await tidy(seen);
    mock.world.reset('well');
  });

  it('a phone shows the overview and a group without scrolling sideways', async () => {
    const seen = await visit(browser, mock.url, { language, phone: true });
    await logIn(seen.page, 'wang', 'practice-wang');
    for (const [name, hash, ready] of PAGES.slice(0, 6)) {
      await go(seen.page, hash);
      await seen.page.waitForSelector(ready);
      const wide = await seen.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(wide, `${name} is wider than the window`).toBeLessThanOrEqual(0);
      await accessible(seen.page, `${name}, phone`);
      if (name === 'group') await shot(seen, `${name}-phone-${language}`, false);
    }
    await seen.page.locator('header button.narrow-only').click();
    await seen.page.locator('.ant-drawer nav a[href="#/"]').click();
    await seen.page.waitForSelector('[data-testid=overview]');
    await tidy(seen);
  });
});
