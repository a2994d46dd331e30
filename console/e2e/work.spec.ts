// An operator's work, against the mock server.

import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { start } from '../mock/server.mjs';
import { accessible, go, launch, logIn, type Visit, visit } from './browser';

const SHOTS = process.env.CONSOLE_SHOTS;
let mock: Awaited<ReturnType<typeof start>>;
let browser: Browser;
let seen: Visit;
let page: Page;
beforeAll(async () => {
  mock = await start();
  browser = await launch();
});
afterAll(async () => {
  await browser?.close();
  await mock?.stop();
});
beforeEach(async () => {
  await scene({ scene: 'well', cut: false, setup: false, failures: 0 });
  seen = await visit(browser, mock.url, { language: 'en' });
  page = seen.page;
});
afterEach(async () => {
  expect(seen.complaints).toEqual([]);
  expect(seen.strays).toEqual([]);
  await seen.context.close();
});

const scene = (body: object) => fetch(`${mock.url}/mock`, { method: 'POST', body: JSON.stringify(body) });
const text = (selector: string) => page.locator(selector).first().innerText();

describe('logging in', () => {
  it('says what is wrong, and how long to wait', async () => {
    for (let tries = 0; tries < 5; tries += 1) {
      await page.fill('#name', 'admin');
      await page.fill('#password', 'wrong');
      await page.click('button[type=submit]');
      await page.waitForSelector('[data-testid=login-problem]');
      expect(await text('[data-testid=login-problem]')).toContain('Name or password is wrong');
    }
    await page.click('button[type=submit]');
    await page.waitForFunction(() => document.querySelector('[data-testid=login-problem]')?.textContent?.includes('30 s'));
    await scene({ failures: 0 });
  });

  it('ends by the person’s wish, and by the server’s', async () => {
    await logIn(page, 'li', 'practice-li');
    await page.click('[data-testid=logout]');
    await page.waitForSelector('#name');
    await logIn(page, 'li', 'practice-li');
    await scene({ logout: true, cut: true });
    await scene({ cut: false });
    await page.getByText('You are not logged in any more').waitFor();
  });

  it('keeps the language that was chosen', async () => {
    await page.getByText('中文').click();
    await page.getByText('登录 hotpair').waitFor();
    await page.reload();
    await page.getByText('登录 hotpair').waitFor();
    expect(await page.evaluate(() => document.documentElement.lang)).toBe('zh-CN');
  });
});

describe('a switchover', () => {
  it('is previewed, done, and followed to its end', async () => {
    await logIn(page, 'wang', 'practice-wang');
    await go(page, '#/groups/shop');
    await page.locator('[data-group-page=shop] [data-action="group.switch"]').click();
    await page.waitForSelector('[data-testid=preview]');
    expect(await text('[data-testid=preview]')).toContain('would be done: shop will be stopped on node1 and started on node2');
    expect(await text('[data-testid=action-dialog] code')).toBe('hotpair group switch shop --to node2');
    expect(mock.world.status().groups[0]?.active_on, 'nothing was done yet').toEqual(['node1']);
    await accessible(page, 'switch dialogue');
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/switch-preview-en.png`, scale: 'css' });
    await page.click('[data-testid=do]');
    await page.getByText('web stopped on node1').first().waitFor();
    await page.getByText('database running on node2').first().waitFor();
    await page.waitForSelector('[data-reached=true]');
    await accessible(page, 'switch dialogue, done');
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/switch-done-en.png`, scale: 'css' });
    await page.click('[data-testid=close]');
    await page.waitForSelector('[data-fit=node2] [data-state=active]');
    await page.waitForSelector('[data-fit=node1] [data-state=standby]');
  });

  it('in Chinese is told in Chinese', async () => {
    await page.getByText('中文').click();
    await logIn(page, 'wang', 'practice-wang');
    await go(page, '#/groups/shop');
    await page.locator('[data-group-page=shop] [data-action="group.switch"]').click();
    await page.waitForSelector('[data-testid=preview]');
    expect(await text('[data-testid=preview]')).toContain('shop 将在 node1 上停止并在 node2 上启动');
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/switch-preview-zh.png`, scale: 'css' });
    await page.click('[data-testid=do]');
    await page.waitForSelector('[data-reached=true]');
    await page.getByText('完成：集群已达到目标状态。').waitFor();
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/switch-done-zh.png`, scale: 'css' });
  });

  it('that would be refused cannot be asked for', async () => {
    mock.world.reset('trouble');
    await logIn(page, 'wang', 'practice-wang');
    await go(page, '#/groups/shop');
    await page.locator('[data-group-page=shop] [data-action="group.switch"]').click();
    await page.getByText('Refused, nothing was changed: node2 cannot run it').waitFor();
    expect(await page.locator('[data-testid=do]').isDisabled()).toBe(true);
  });
});

describe('dangerous steps', () => {
  it('wait for the typed word', async () => {
    await logIn(page, 'admin', 'practice-admin');
    await go(page, '#/nodes');
    await page.locator('[data-node=node2] [data-action=more]').click();
    await page.getByRole('menuitem', { name: 'Fence' }).click();
    await page.waitForSelector('[data-testid=preview]');
    expect(await page.locator('[data-testid=do]').isDisabled()).toBe(true);
    await page.fill('[data-testid=typed]', 'node1');
    expect(await page.locator('[data-testid=do]').isDisabled()).toBe(true);
    await page.fill('[data-testid=typed]', 'node2');
    expect(await page.locator('[data-testid=do]').isDisabled()).toBe(false);
  });
});

describe('roles', () => {
  it('a viewer sees what there is and may do nothing', async () => {
    await logIn(page, 'li', 'practice-li');
    await go(page, '#/groups/shop');
    await page.waitForSelector('[data-group-page=shop]');
    expect(await page.locator('[data-group-page=shop] [data-action="group.switch"]').isDisabled()).toBe(true);
    expect(await page.locator('nav a[href="#/config"], nav a[href="#/accounts"], nav a[href="#/what-if"]').count()).toBe(0);
    await go(page, '#/accounts');
    await page.waitForSelector('[data-testid=overview]');
  });

  it('an operator may not fence', async () => {
    await logIn(page, 'wang', 'practice-wang');
    await go(page, '#/nodes');
    await page.locator('[data-node=node2] [data-action=more]').click();
    await page.locator('[role=menuitem][aria-disabled=true]', { hasText: 'Fence' }).waitFor();
  });
});

describe('when the stream breaks', () => {
  it('it is said, other nodes are offered, and all is live again by itself', async () => {
    await logIn(page, 'wang', 'practice-wang');
    await page.waitForSelector('[data-live=true]');
    await scene({ cut: true });
    await page.waitForSelector('[data-testid=banner]');
    expect(await text('[data-testid=banner]')).toContain('No connection to node1');
    expect(await page.locator('[data-testid=banner] a').first().getAttribute('href')).toMatch(/^https:\/\/10\.77\.1\.12:\d+\/$/);
    await page.waitForSelector('[data-live=false]');
    await accessible(page, 'banner');
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/broken-en.png`, scale: 'css' });
    await scene({ cut: false });
    await page.waitForSelector('[data-live=true]');
    await page.waitForSelector('[data-testid=banner]', { state: 'detached' });
  });

  it('a daemon that is down is told, too', async () => {
    await logIn(page, 'wang', 'practice-wang');
    await scene({ daemon: false });
    await page.getByText('The hotpair daemon on node1 is not running').waitFor();
    await scene({ daemon: true });
    await page.waitForSelector('[data-testid=banner]', { state: 'detached' });
  });
});

describe('looking around', () => {
  it('events are filtered and exported', async () => {
    await logIn(page, 'li', 'practice-li');
    await go(page, '#/events');
    await page.waitForSelector('tbody tr.ant-table-row');
    await page.fill('#text', 'no heartbeat');
    await page.getByText('1 of 9 entries').waitFor();
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByText('Export CSV').click()]);
    const path = await file.path();
    const { readFileSync } = await import('node:fs');
    expect(readFileSync(path, 'utf8').trim().split('\r\n').length).toBe(2);
  });

  it('a fault is thought through', async () => {
    await logIn(page, 'wang', 'practice-wang');
    await go(page, '#/what-if');
    await page.click('[data-testid=ask]');
    await page.waitForSelector('[data-testid=what-if]');
    expect(await text('[data-testid=what-if]')).toContain('shop is given to node2');
    expect(await text('code')).toBe('hotpair simulate --fail node1');
    await accessible(page, 'what if, answered');
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/what-if-answer-en.png`, scale: 'css' });
  });

  it('the keyboard alone is enough for a switchover', async () => {
    await logIn(page, 'wang', 'practice-wang');
    await go(page, '#/groups/mail');
    await page.waitForSelector('[data-group-page=mail]');
    await page.locator('[data-group-page=mail] [data-action="group.switch"]').focus();
    await page.keyboard.press('Enter');
    await page.waitForSelector('[data-testid=preview]');
    await page.locator('[data-testid=do]').focus();
    await page.keyboard.press('Enter');
    await page.waitForSelector('[data-reached=true]');
    await page.keyboard.press('Escape');
    await page.waitForSelector('[data-testid=action-dialog]', { state: 'detached' });
  });
});

describe('the configuration', () => {
  it('is checked with its findings, then applied with its changes', async () => {
    await logIn(page, 'admin', 'practice-admin');
    await go(page, '#/config');
    await page.click('[data-testid=edit]');
    const first = await page.inputValue('#toml');
    await page.fill('#toml', first.replace('priority', 'priorty'));
    await page.click('[data-testid=check]');
    await page.getByText('did you mean').waitFor();
    expect(await page.locator('[data-testid=apply]').isDisabled()).toBe(true);
    await accessible(page, 'configuration with findings');
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/config-findings-en.png`, scale: 'css', fullPage: true });
    await page.fill('#toml', first.replace('priority = 10', 'priority = 20'));
    expect(await page.locator('[data-testid=apply]').isDisabled(), 'another text must be checked again').toBe(true);
    await page.click('[data-testid=check]');
    await page.getByText('nothing is restarted').waitFor();
    await page.click('[data-testid=apply]');
    await page.locator('.ant-modal .ant-btn-primary').click();
    await page.waitForSelector('[data-testid=applied]');
    await page.getByText('Revision 8 is in force').waitFor();
  });

  it('is not applied over somebody else’s revision', async () => {
    await logIn(page, 'admin', 'practice-admin');
    await go(page, '#/config');
    await page.click('[data-testid=edit]');
    await page.click('[data-testid=check]');
    await page.waitForSelector('[data-testid=findings]');
    await scene({ revision: 9 });
    await page.getByText('Revision 9 is in force by now').waitFor();
    expect(await page.locator('[data-testid=apply]').isDisabled()).toBe(true);
  });
});

describe('accounts', () => {
  it('are added, changed and removed', async () => {
    await logIn(page, 'admin', 'practice-admin');
    await go(page, '#/accounts');
    await page.click('[data-testid=add]');
    await page.fill('.ant-modal #name', 'zhang');
    await page.fill('.ant-modal #password', 'a-long-password');
    await accessible(page, 'new account');
    await page.locator('.ant-modal .ant-btn-primary').click();
    const row = page.locator('tbody tr', { hasText: 'zhang' });
    await row.waitFor();
    await row.getByRole('button', { name: 'Remove: zhang' }).click();
    await page.locator('.ant-modal-confirm .ant-btn-dangerous').click();
    await row.waitFor({ state: 'detached' });
  });

  it('one’s own password is changed', async () => {
    await logIn(page, 'li', 'practice-li');
    await go(page, '#/password');
    await page.fill('#old', 'practice-li');
    await page.fill('#fresh', 'another-long-one');
    await page.fill('#again', 'another-long-on');
    await page.click('main button[type=submit]');
    await page.getByText('The two are not the same.').waitFor();
    await page.fill('#again', 'another-long-one');
    await page.click('main button[type=submit]');
    await page.getByText('The password was changed.').waitFor();
    mock.world.accounts.get('li').password = 'practice-li';
  });
});
