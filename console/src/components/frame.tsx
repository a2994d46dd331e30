// Header, list of pages, and the page.

import {
  AppstoreOutlined,
  ClusterOutlined,
  ExperimentOutlined,
  FileTextOutlined,
  HomeOutlined,
  KeyOutlined,
  MenuOutlined,
  SwapOutlined,
  TeamOutlined,
  UnorderedListOutlined,
} from '@ant-design/icons';
import { Button, Drawer, Spin } from 'antd';
import { lazy, type ReactNode, Suspense, useEffect, useState } from 'react';
import { may } from '../api/actions';
import type { Role } from '../api/types';
import type { Key } from '../i18n/translate';
import { Overview } from '../pages/overview';
import { useText } from '../state/preferences';
import { useRoute } from '../state/route';
import { useMe } from '../state/session';
import { useCluster } from '../state/store';
import { tone } from '../words/states';
import { Banner } from './banner';
import { Boundary } from './boundary';
import { Header } from './header';

const Group = lazy(() => import('../pages/group'));
const Groups = lazy(() => import('../pages/groups'));
const Nodes = lazy(() => import('../pages/nodes'));
const Mirrors = lazy(() => import('../pages/mirrors'));
const Events = lazy(() => import('../pages/events'));
const WhatIf = lazy(() => import('../pages/what-if'));
const Config = lazy(() => import('../pages/config'));
const Accounts = lazy(() => import('../pages/accounts'));
const Password = lazy(() => import('../pages/password'));

interface Entry {
  path: string;
  key: Key;
  icon: ReactNode;
  needs: Role;
}

const ENTRIES: Entry[] = [
  { path: '', key: 'nav.overview', icon: <HomeOutlined />, needs: 'viewer' },
  { path: 'groups', key: 'nav.groups', icon: <AppstoreOutlined />, needs: 'viewer' },
  { path: 'nodes', key: 'nav.nodes', icon: <ClusterOutlined />, needs: 'viewer' },
  { path: 'mirrors', key: 'nav.mirrors', icon: <SwapOutlined />, needs: 'viewer' },
  { path: 'events', key: 'nav.events', icon: <UnorderedListOutlined />, needs: 'viewer' },
  { path: 'what-if', key: 'nav.whatif', icon: <ExperimentOutlined />, needs: 'operator' },
  { path: 'config', key: 'nav.config', icon: <FileTextOutlined />, needs: 'operator' },
  { path: 'accounts', key: 'nav.accounts', icon: <TeamOutlined />, needs: 'administrator' },
  { path: 'password', key: 'nav.password', icon: <KeyOutlined />, needs: 'viewer' },
];

export function Frame() {
  const { t } = useText();
  const route = useRoute();
  const [menu, setMenu] = useState(false);
  const me = useMe();
  const { status } = useCluster();
  const entry = ENTRIES.find(({ path }) => path === (route[0] ?? ''));
  useEffect(() => {
    setMenu(false);
    const page = entry ? t(entry.key) : t('app.name');
    document.title = `${route[1] ?? page} – ${status?.cluster.name ?? me.cluster} – hotpair`;
  }, [route.join('/'), status?.cluster.name, t]);
  return (
    <div className="frame">
      <a className="skip" href="#content" onClick={(event) => focusContent(event)}>
        {t('app.skip')}
      </a>
      <Header
        menu={
          <Button className="narrow-only" type="text" icon={<MenuOutlined />} aria-label={t('app.menu')} onClick={() => setMenu(true)} />
        }
      />
      <div className="body">
        <aside className="wide-only side">
          <Pages route={route} />
        </aside>
        <Drawer open={menu} placement="left" width={260} title={t('app.pages')} onClose={() => setMenu(false)} closable={{ 'aria-label': t('app.close') }}>
          <Pages route={route} onChoose={() => setMenu(false)} />
        </Drawer>
        <main id="content" tabIndex={-1}>
          <Banner />
          <Boundary key={route[0] ?? ''}>
            <Suspense fallback={<Spin aria-label={t('app.loading')} />}>
              <Page route={route} />
            </Suspense>
          </Boundary>
        </main>
      </div>
    </div>
  );
}

/** The address after `#` names pages, so the jump is made by hand. */
function focusContent(event: { preventDefault: () => void }): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}

function Page({ route }: { route: string[] }) {
  const { role } = useMe();
  const [page = '', name] = route;
  const entry = ENTRIES.find(({ path }) => path === page);
  if (!entry || !may(role, entry.needs)) return <Overview />;
  switch (page) {
    case 'groups':
      return name ? <Group key={name} name={name} /> : <Groups />;
    case 'nodes':
      return <Nodes />;
    case 'mirrors':
      return <Mirrors />;
    case 'events':
      return <Events />;
    case 'what-if':
      return <WhatIf />;
    case 'config':
      return <Config />;
    case 'accounts':
      return <Accounts />;
    case 'password':
      return <Password />;
    default:
      return <Overview />;
  }
}

function Pages({ route, onChoose }: { route: string[]; onChoose?: () => void }) {
  const { t } = useText();
  const { role } = useMe();
  const { status } = useCluster();
  const [page = '', name] = route;
  const current = (here: boolean) => (here ? ({ 'aria-current': 'page' } as const) : {});
  return (
    <nav aria-label={t('app.pages')} className="pages">
      <ul>
        {ENTRIES.filter(({ needs }) => may(role, needs)).map(({ path, key, icon }) => (
          <li key={path}>
            <a href={`#/${path}`} onClick={onChoose} {...current(page === path && !name)}>
              <span aria-hidden="true">{icon}</span> {t(key)}
            </a>
            {path === 'groups' && (
              <ul>
                {status?.groups.map((group) => (
                  <li key={group.name}>
                    <a href={`#/groups/${encodeURIComponent(group.name)}`} onClick={onChoose} {...current(page === 'groups' && name === group.name)}>
                      <span aria-hidden="true" className={`dot tone-${tone('group', group.state)}`} /> {group.name}
                    </a>
                  </li>
                ))}
              </ul>
            )}
          </li>
        ))}
      </ul>
    </nav>
  );
}
