//! Queries end when nobody waits for them any more, whatever they compute.
//!
//! DataFusion's operators are stopped where they wait. Its joins may compute for hours without: they give many rows for
//! one that they take, and a filter may let none of them out (<https://github.com/apache/datafusion/issues/19358>).

use std::{
    fmt::{self, Debug, Display, Formatter},
    hash::{Hash, Hasher},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, Schema},
    },
    common::{
        Result,
        config::ConfigOptions,
        exec_err, internal_datafusion_err,
        tree_node::{Transformed, TreeNode},
    },
    logical_expr::ColumnarValue,
    physical_expr::PhysicalExpr,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        coop::CooperativeExec,
        joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, utils::JoinFilter},
    },
};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of their own: however long a query computes, whoever receives and answers is not held up. They start with
/// the first query.
#[derive(Default)]
pub(super) struct Threads(Mutex<Option<Runtime>>);

impl Threads {
    pub(super) fn handle(&self) -> io::Result<Handle> {
        let mut started = self.0.lock();
        if let Some(runtime) = &*started {
            return Ok(runtime.handle().clone());
        }
        let runtime = Builder::new_multi_thread().thread_name("sql").enable_all().build()?;
        Ok(started.insert(runtime).handle().clone())
    }
}

impl Drop for Threads {
    /// Waits for nobody, since it may happen where waiting is forbidden.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets joins pause between their batches, which is where a query is stopped, and fails their filters once the query is
/// `cancelled`.
#[derive(Debug)]
pub(super) struct StopJoins {
    pub(super) cancelled: Arc<AtomicBool>,
}

impl PhysicalOptimizerRule for StopJoins {
    fn name(&self) -> &str {
        "StopJoins"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stoppable = plan.transform_up(|plan| {
            // Joins, and the steps of a recursive query.
            if plan.children().len() < 2 {
                return Ok(Transformed::no(plan));
            }
            let plan = self.with_filter(plan)?;
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>))
        });
        Ok(stoppable?.data)
    }
}

impl StopJoins {
    fn with_filter(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let stoppable = |filter: &JoinFilter| {
            let inner = filter.expression().clone();
            let expression = Arc::new(UntilCancelled { inner, cancelled: self.cancelled.clone() });
            JoinFilter::new(expression, filter.column_indices().to_vec(), filter.schema().clone())
        };
        if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(stoppable(filter)));
            return Ok(Arc::new(join.build()?));
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            return join.builder().with_filter(Some(stoppable(filter))).build_exec();
        }
        Ok(plan)
    }
}

/// A filter that is an error once the query is cancelled.
#[derive(Clone)]
struct UntilCancelled {
    inner: Arc<dyn PhysicalExpr>,
    cancelled: Arc<AtomicBool>,
}

impl PhysicalExpr for UntilCancelled {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.inner.nullable(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.cancelled.load(Ordering::Relaxed) {
            return exec_err!("nobody waits for the query any more");
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let [inner] = <[_; 1]>::try_from(children)
            .map_err(|children| internal_datafusion_err!("{} children", children.len()))?;
        Ok(Arc::new(UntilCancelled { inner, cancelled: self.cancelled.clone() }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

impl PartialEq for UntilCancelled {
    fn eq(&self, other: &UntilCancelled) -> bool {
        self.inner.as_ref() == other.inner.as_ref() && Arc::ptr_eq(&self.cancelled, &other.cancelled)
    }
}

impl Eq for UntilCancelled {}

impl Hash for UntilCancelled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Debug for UntilCancelled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.inner, f)
    }
}

impl Display for UntilCancelled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.inner, f)
    }
}
