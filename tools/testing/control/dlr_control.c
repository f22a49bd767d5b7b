// SPDX-License-Identifier: GPL-2.0
/*
 * The negative control of the native bed and of the debug kernel of the box: a KUnit suite whose
 * only case does one wrong thing, named by the parameter "wrong". Each has to turn a run red, or
 * the bed would not see it in the driver either. Without the parameter the case passes.
 */
#include <kunit/test.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

static char *wrong = "";
module_param(wrong, charp, 0444);
MODULE_PARM_DESC(wrong, "what the case does wrong");

static DEFINE_SPINLOCK(spin);
static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

/* The compiler must not see that the pointer is bad, or it drops the access. */
static noinline void read_from(const char *p)
{
	OPTIMIZER_HIDE_VAR(p);
	pr_info("control: read %d\n", READ_ONCE(*p));
}

static void use_after_free(void)
{
	char *p = kmalloc(64, GFP_KERNEL);

	if (!p)
		return;
	kfree(p);
	read_from(p);
}

static void beyond_the_end(void)
{
	char *p = kmalloc(40, GFP_KERNEL);

	if (!p)
		return;
	read_from(p + 40);
	kfree(p);
}

static noinline void leak(void)
{
	void *p = kmalloc(4096, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(p);
}

static void sleep_in_atomic(void)
{
	spin_lock(&spin);
	might_sleep();
	spin_unlock(&spin);
}

/* Only lockdep sees it: one task alone cannot deadlock that way. */
static void lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void added_twice(void)
{
	static struct list_head entry;
	static LIST_HEAD(list);

	list_add(&entry, &list);
	list_add(&entry, &list);
}

static void control(struct kunit *test)
{
	KUNIT_EXPECT_STRNEQ(test, wrong, "fail");
	if (!strcmp(wrong, "oops"))
		read_from(NULL);
	else if (!strcmp(wrong, "warn"))
		WARN_ON(1);
	else if (!strcmp(wrong, "use-after-free"))
		use_after_free();
	else if (!strcmp(wrong, "beyond-the-end"))
		beyond_the_end();
	else if (!strcmp(wrong, "leak"))
		leak();
	else if (!strcmp(wrong, "sleep-in-atomic"))
		sleep_in_atomic();
	else if (!strcmp(wrong, "lock-order"))
		lock_order();
	else if (!strcmp(wrong, "added-twice"))
		added_twice();
}

static struct kunit_case cases[] = {
	KUNIT_CASE(control),
	{}
};

static struct kunit_suite suite = {
	.name = "dlr_control",
	.test_cases = cases,
};
kunit_test_suite(suite);

MODULE_DESCRIPTION("Does wrong, so that the tests' bed can be seen to notice");
MODULE_LICENSE("GPL");
