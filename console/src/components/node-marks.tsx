import type { NodeView, StatusView } from '../api/types';
import { useText } from '../state/preferences';
import { Mark, State } from './parts';

export function NodeMarks({ status, node }: { status: StatusView; node: NodeView }) {
  const { t } = useText();
  return (
    <span className="row">
      <State kind="member" state={node.state} />
      {status.node === node.name && <Mark tone="unfit">{t('nodes.thisnode')}</Mark>}
      {status.leader === node.name && <Mark tone="unfit">{t('nodes.leader')}</Mark>}
      {!node.votes && <Mark tone="warn">{t('nodes.novote')}</Mark>}
      {node.maintenance && <Mark tone="hold">{t('nodes.maintenance')}</Mark>}
      {node.drained && <Mark tone="hold">{t('nodes.drained')}</Mark>}
      {node.held_out && <Mark tone="warn">{t('nodes.heldout')}</Mark>}
      {node.fencing && <Mark tone="bad">{t('nodes.fencing')}</Mark>}
    </span>
  );
}
