// Says when what is shown may be old, and where else to look.

import { Alert, Button } from 'antd';
import { useEffect, useState } from 'react';
import { useText } from '../state/preferences';
import { isOld, otherConsoles } from '../state/reduce';
import { useMe } from '../state/session';
import { retryNow, useCluster } from '../state/store';
import { duration } from '../words/amounts';

export function Banner() {
  const { t } = useText();
  const me = useMe();
  const cluster = useCluster();
  const old = isOld(cluster);
  const now = useClock(old);
  useEffect(() => {
    document.documentElement.dataset.old = String(old);
  }, [old]);
  if (!old) return null;
  const broken = cluster.connection === 'broken';
  const node = cluster.status?.node ?? me.node;
  const ago = cluster.heard === null ? '–' : duration((now - cluster.heard) / 1000);
  const said = broken ? cluster.problem : cluster.daemon?.problem;
  return (
    <Alert
      className="banner"
      role="alert"
      type="error"
      showIcon
      data-testid="banner"
      message={t(broken ? 'stream.broken.title' : 'stream.daemon.title', { node })}
      description={
        <>
          <div>{broken ? t('stream.broken.text', { ago }) : t('stream.daemon.text')}</div>
          {said ? <div className="faint">{said}</div> : null}
          <Others />
        </>
      }
      action={
        broken ? (
          <Button size="small" onClick={retryNow}>
            {t('stream.retry')}
          </Button>
        ) : undefined
      }
    />
  );
}

function Others() {
  const { t } = useText();
  const { status } = useCluster();
  const others = otherConsoles(status, location.port);
  if (others.length === 0) return null;
  return (
    <div>
      {t('stream.others')}{' '}
      {others.map(({ node, url }) => (
        <span key={url}>
          <a href={url}>
            {node} ({url.replace(/^https:\/\/|\/$/g, '')})
          </a>{' '}
        </span>
      ))}
    </div>
  );
}

function useClock(on: boolean): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!on) return undefined;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [on]);
  return now;
}
