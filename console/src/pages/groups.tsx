import { cluster } from '../api/actions';
import { ActionButtons } from '../components/action-buttons';
import { GroupCard } from '../components/group-card';
import { Waiting } from '../components/waiting';
import { useText } from '../state/preferences';
import { useCluster } from '../state/store';

export default function Groups() {
  const { t } = useText();
  const { status } = useCluster();
  if (!status) return <Waiting />;
  return (
    <div className="page live-data">
      <div className="head">
        <h1>{t('nav.groups')}</h1>
        <ActionButtons
          about={status.cluster.name}
          offers={[{ action: cluster.startAll() }, { action: cluster.stopAll(status.cluster.name) }]}
        />
      </div>
      {status.groups.length === 0 && <p>{t('overview.groups.none')}</p>}
      <div className="grid">
        {status.groups.map((group) => (
          <GroupCard key={group.name} group={group} />
        ))}
      </div>
    </div>
  );
}
