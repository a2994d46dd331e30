import { LogoutOutlined, MoonOutlined, SunOutlined } from '@ant-design/icons';
import { Button, Segmented, Tooltip } from 'antd';
import type { ReactNode } from 'react';
import type { Language } from '../api/types';
import { useText } from '../state/preferences';
import { isOld } from '../state/reduce';
import { useMe, useSession } from '../state/session';
import { useCluster } from '../state/store';

export function LanguageSwitch() {
  const { t, language, choose } = useText();
  return (
    <Segmented
      aria-label={t('header.language')}
      size="small"
      value={language}
      onChange={(value) => choose(value as Language)}
      options={[
        { value: 'zh', label: <span lang="zh-CN">中文</span> },
        { value: 'en', label: <span lang="en">English</span> },
      ]}
    />
  );
}

export function ColourSwitch() {
  const { t, dark, setDark } = useText();
  const label = t(dark ? 'header.light' : 'header.dark');
  return (
    <Tooltip title={label}>
      <Button type="text" size="small" icon={dark ? <SunOutlined /> : <MoonOutlined />} aria-label={label} onClick={() => setDark(!dark)} />
    </Tooltip>
  );
}

export function Header({ menu }: { menu: ReactNode }) {
  const { t } = useText();
  const me = useMe();
  const { logout } = useSession();
  const cluster = useCluster();
  const live = cluster.connection === 'open' && !isOld(cluster);
  return (
    <header className="top">
      {menu}
      <a href="#/" className="brand">
        <img src="./icon.svg" alt="" width={22} height={22} /> <strong>{cluster.status?.cluster.name ?? me.cluster}</strong>
      </a>
      <span className="where">{t('header.node', { node: cluster.status?.node ?? me.node })}</span>
      <Tooltip title={live ? t('header.live.means') : ''}>
        <span className={`state tone-${live ? 'good' : 'warn'}`} role="status" data-testid="live" data-live={live}>
          <span aria-hidden="true">{live ? '●' : '▲'}</span> {t(live ? 'header.live' : isOld(cluster) ? 'stream.old' : 'header.notlive')}
        </span>
      </Tooltip>
      <span className="spring" />
      <LanguageSwitch />
      <ColourSwitch />
      <Tooltip title={t(`role.${me.role}.means`)}>
        <span className="who">
          {me.name} <span className="faint">({t(`role.${me.role}`)})</span>
        </span>
      </Tooltip>
      <Button size="small" icon={<LogoutOutlined />} onClick={() => void logout()} aria-label={t('header.logout')} data-testid="logout">
        <span className="wide-only">{t('header.logout')}</span>
      </Button>
    </header>
  );
}
